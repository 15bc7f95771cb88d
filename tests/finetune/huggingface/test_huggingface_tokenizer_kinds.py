"""Vocabularies of Hugging Face and tiktoken in an exported directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import ROLES_FILE, Tokenizer, load_tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.document_start import trained_text
from finetune.huggingface.export import _write_tokenizer
from finetune.huggingface.plain_call import PlainCall
from finetune.huggingface.tokenizer_check import PROBES, check_same_ids
from finetune.model_checkpoint import find_tokenizer
from pretrain.checkpoint.model_checkpoint import ModelCheckpoint
from pretrain.models.gpt.config import GPTConfig
from tests.finetune.finetune_tokenizers import LINES, train_tokenizer
from tests.finetune.huggingface.test_huggingface_tokenizer import TOPICS, random_texts
from tests.tokenizer_kinds import huggingface_bpe, huggingface_unigram, tiktoken_ranks, with_scheme


def made(kind: str, root: Path) -> Tokenizer:
    if kind == "huggingface":
        return load_tokenizer(huggingface_bpe(root / "foreign", LINES))
    return load_tokenizer(with_scheme(tiktoken_ranks(root / "v.tiktoken", LINES)))


@pytest.mark.parametrize("kind", ["huggingface", "tiktoken"])
@pytest.mark.parametrize("append", [False, True])
def test_transformers_reads_the_same_ids(tmp_path: Path, kind: str, append: bool) -> None:
    from transformers import AutoTokenizer

    tokenizer = made(kind, tmp_path)
    out = tmp_path / "hf"
    out.mkdir()
    end = tokenizer.role("end_of_document")
    hf_tokenizer.save(tokenizer, out, seq_length=64, call=PlainCall(after=end if append else None))
    texts = TOPICS + random_texts(50)
    assert check_same_ids(tokenizer, out, texts) == len(texts) + len(PROBES)
    theirs = AutoTokenizer.from_pretrained(out)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.mask_token_id) == tuple(
        tokenizer.role(role) for role in ("end_of_document", "pad", "mask")
    )
    assert (len(theirs), theirs.model_max_length) == (tokenizer.vocab_size, 64)
    assert theirs.decode([end, *tokenizer.encode("a b")], skip_special_tokens=True) == "a b"
    if append:
        assert theirs("a b").input_ids == [*tokenizer.encode("a b"), end]


@pytest.mark.parametrize("name", ["gpt2", "cl100k_base", "o200k_base"])
def test_well_known_patterns_have_a_counterpart(tmp_path: Path, name: str) -> None:
    ranks = tiktoken_ranks(tmp_path / "v.tiktoken", LINES)
    ranks.with_suffix(".yaml").write_text(f"encoding: {name}\nspecial_tokens: {{<|endoftext|>: 400}}\n")
    out = tmp_path / "hf"
    out.mkdir()
    tokenizer = load_tokenizer(ranks)
    hf_tokenizer.save(tokenizer, out, seq_length=64)
    assert check_same_ids(tokenizer, out, TOPICS) > len(TOPICS)


def test_a_file_whose_model_spells_its_special_tokens(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(huggingface_unigram(tmp_path / "t5", LINES))
    out = tmp_path / "hf"
    out.mkdir()
    hf_tokenizer.save(tokenizer, out, seq_length=64)
    with_end = sum("</s>" in text or "<unk>" in text for text in PROBES)
    assert with_end and check_same_ids(tokenizer, out) == len(PROBES) - with_end


def test_special_tokens_between_byte_strings_are_refused(tmp_path: Path) -> None:
    ranks = tiktoken_ranks(tmp_path / "v.tiktoken", LINES)
    ranks.write_text(ranks.read_text().replace(" 399\n", " 900\n"))
    ranks.with_suffix(".yaml").write_text("encoding: gpt2\nspecial_tokens: {<|endoftext|>: 399}\n")
    with pytest.raises(DataError, match="between its byte strings"):
        hf_tokenizer.convert_tiktoken(load_tokenizer(ranks))  # type: ignore[arg-type]


def test_a_run_finds_its_copy_and_export_refuses_what_does_not_fit(tmp_path: Path) -> None:
    tokenizer = made("tiktoken", tmp_path)
    tokenizer.copy_to(tmp_path / "run" / "tokenizer")
    metadata = {"tokenizer_fingerprint": tokenizer.fingerprint}
    model = GPTConfig(
        num_layers=1, hidden_size=8, num_attention_heads=1, seq_length=64, vocab_size=tokenizer.vocab_size
    )
    source = ModelCheckpoint(tmp_path / "run" / "checkpoints" / "step_1", model, {}, metadata)
    found = find_tokenizer(source)
    assert found.fingerprint == tokenizer.fingerprint and (tmp_path / "run" / "tokenizer" / ROLES_FILE).is_file()
    config = ExportConfig(model=tmp_path, output=tmp_path / "out", tokenizer="sentencepiece-only")
    text = trained_text(model, metadata, found)
    with pytest.raises(ConfigError, match="of the kind tiktoken"):
        _write_tokenizer(config, source, found, text, tmp_path)
    (tmp_path / "hf").mkdir()
    config = ExportConfig(model=tmp_path, output=tmp_path / "out")
    assert _write_tokenizer(config, source, found, text, tmp_path / "hf") == len(PROBES)
    assert train_tokenizer(tmp_path / "own").kind == "sentencepiece"
