"""Export of encoder-decoders: what a reader gets, and that mistakes write nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError
from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface.export import export
from pretrain.config.model import ModelConfig
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from pretrain.models.huggingface import t5 as t5_family
from pretrain.models.huggingface.rules import query_groups
from pretrain.models.transformer_config import TransformerModelConfig
from tests.finetune.finetune_runs import write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
SIZES |= {"seq_length": 64, "decoder_seq_length": 40, "vocab_multiple": 64}
WITHOUT_SPECIAL_TOKENS = "tests.pretrain.engine.encoder_decoder_objective:MadeUpTargetsConfig"
TEXT = "The try statement specifies handlers"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tok"), control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])


def exported(
    declaration: type[ModelConfig], tokenizer: Tokenizer, folder: Path, objective: str | None = None, **changes: Any
) -> dict[str, Any]:
    metadata = {} if objective is None else {"config": {"objective": {"name": objective}}}
    model = declaration.model_validate(SIZES | {"vocab_size": tokenizer.vocab_size} | changes)
    write_run(folder / "run", model, tokenizer, metadata=metadata)
    config = {"model": folder / "run", "output": folder / "export", "sequences": 1}
    return export(ExportConfig.model_validate(config))


def test_a_t5_of_version_1_1_is_written_and_writes(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    record = exported(T5Config, tokenizer, tmp_path, objective=WITHOUT_SPECIAL_TOKENS)
    assert record["architecture"] == "T5ForConditionalGeneration" and record["pipeline"] == "text2text-generation"
    assert (
        record["logits"]["largest_difference"] < 1e-4 and record["token_rows_equal_to_source"] == tokenizer.vocab_size
    )
    folder = tmp_path / "export"
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    assert not torch.equal(model.lm_head.weight, model.shared.weight)
    assert model.generation_config.decoder_start_token_id == tokenizer.role("pad")
    assert json.loads((folder / "config.json").read_text())["tie_word_embeddings"] is False
    inputs = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")
    assert inputs["input_ids"][0, -1] == tokenizer.role("end_of_document")
    written = model.generate(**inputs, max_new_tokens=4, do_sample=False)
    assert written[0, 0] == tokenizer.role("pad") and written.shape[1] > 1
    assert "AutoModelForSeq2SeqLM" in (folder / "README.md").read_text()


@pytest.mark.slow
def test_a_bart_begins_to_write_with_the_separator(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    record = exported(BartConfig, tokenizer, tmp_path, output_bias=True)
    assert record["architecture"] == "BartForConditionalGeneration"
    folder, roles = tmp_path / "export", [tokenizer.role(role) for role in ("classification", "separator")]
    assert GenerationConfig.from_pretrained(folder).decoder_start_token_id == roles[1]
    ids = AutoTokenizer.from_pretrained(folder)(TEXT)["input_ids"]
    assert [ids[0], ids[-1]] == roles


@pytest.mark.slow
def test_a_wrong_packing_is_written_nowhere(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def swapped(model: TransformerModelConfig) -> Any:
        split, join = query_groups(model)
        return lambda packed: (split(packed)[1], split(packed)[0], split(packed)[2]), join

    monkeypatch.setattr(t5_family, "query_groups", swapped)
    with pytest.raises(CheckpointError, match="nothing was written"):
        exported(T5Config, tokenizer, tmp_path)
    assert not (tmp_path / "export").exists()
