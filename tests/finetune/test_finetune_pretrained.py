"""Directories that transformers' own classes saved, as fine-tuning begins with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers

from configs.errors import DataError
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.networks import head_network, save_tokenizer
from finetune.pretrained import read_pretrained
from finetune.text_template import text_template
from tests.finetune.finetune_tokenizers import train_tokenizer

SIZE = {"vocab_size": 420, "hidden_size": 32}
BERT = transformers.BertConfig(**SIZE, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
T5 = transformers.T5Config(vocab_size=420, d_model=32, num_layers=1, num_heads=2, d_ff=32, d_kv=16)
NETWORKS = {
    "bert-masked": lambda: transformers.BertForMaskedLM(BERT),
    "bert-bare": lambda: transformers.BertModel(BERT),
    "bloom": lambda: transformers.BloomForCausalLM(transformers.BloomConfig(**SIZE, n_layer=1, n_head=2)),
    "mpt": lambda: transformers.MptForCausalLM(
        transformers.MptConfig(vocab_size=420, d_model=32, n_layers=1, n_heads=2, max_seq_len=48)
    ),
    "t5": lambda: transformers.T5ForConditionalGeneration(T5),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(root / "tok")
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        make().save_pretrained(root / name)
        hf_tokenizer.save(tokenizer, root / name, 64)
    return root


@pytest.mark.parametrize(
    ("name", "context", "is_encoder"),
    [("bert-masked", 512, True), ("bert-bare", 512, True), ("bloom", None, False), ("mpt", 48, False)],
)
def test_bodies_of_other_families_are_kept(root: Path, name: str, context: int | None, is_encoder: bool) -> None:
    pretrained = read_pretrained(root / name)
    assert (pretrained.context, pretrained.is_encoder) == (context, is_encoder)
    fields = {"pad_token_id": 2, "id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    network = head_network("AutoModelForSequenceClassification", pretrained, fields)
    saved = transformers.AutoModel.from_pretrained(root / name)
    body = getattr(network, network.base_model_prefix)
    own, theirs = body.state_dict(), saved.state_dict()
    compared = [key for key in theirs if not key.startswith("pooler")]
    assert len(compared) > 5 and all(torch.equal(own[key], theirs[key]) for key in compared)


def test_what_is_no_language_model_of_texts_is_told(root: Path) -> None:
    pretrained = read_pretrained(root / "t5")
    with pytest.raises(DataError, match="its weights do not fit T5ForSequenceClassification"):
        head_network("AutoModelForSequenceClassification", pretrained, {"pad_token_id": 2})
    (root / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds neither a complete checkpoint nor a config\.json"):
        read_pretrained(root / "empty")
    with pytest.raises(DataError, match=r"does not exist[\s\S]*did you mean: .*bert-bare"):
        read_pretrained(root / "bert-bar")


def test_a_begin_token_that_our_tokenizer_does_not_have(tmp_path: Path) -> None:
    """GPT-2's config names its own vocabulary's where nothing else is said."""
    train_tokenizer(tmp_path / "tok")
    config = transformers.GPT2Config(vocab_size=500, n_positions=32, n_embd=16, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    pretrained = read_pretrained(tmp_path / "gpt2", tmp_path / "tok")
    assert pretrained.hf_config["bos_token_id"] == 50256
    save_tokenizer(tmp_path, pretrained, text_template(pretrained, 32))
    assert transformers.AutoTokenizer.from_pretrained(tmp_path).bos_token_id is None
