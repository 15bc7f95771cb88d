"""The exported tokenizer gives our ids, or is refused."""

from __future__ import annotations

import json
import pydoc_data.topics
import random
from pathlib import Path

import pytest

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.tokenizer_check import PROBES, check_same_ids
from tests.finetune.finetune_tokenizers import train_tokenizer

TOPICS = [text[:3000] for text in pydoc_data.topics.topics.values()][::4]


def random_texts(count: int) -> list[str]:
    """Strings over every script, with runs of spaces, controls and literal U+2581."""
    generator = random.Random(3)
    blocks = [
        "ab c  \n\t",
        "▁ \u00a0\u3000",
        "éßçœ",
        "日本語ひら",
        "Ωλйж",
        "😀👩\u200d🚀",
        "\x01\x7f\ufeff\ufffd",
        "𐍈𓀀\U0010fffd",
    ]
    return ["".join(generator.choice(generator.choice(blocks)) for _ in range(60)) for _ in range(count)]


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        ("bpe", {}),
        ("char", {}),
        ("bpe", {"user_defined_symbols": ["<tool>", "\n\n"]}),
        ("bpe", {"add_dummy_prefix": True}),
        ("bpe", {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True, "add_dummy_prefix": True}),
    ],
)
def test_transformers_reads_the_same_ids(tmp_path: Path, algorithm: str, changes: dict[str, object]) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok", algorithm, **changes)
    out = tmp_path / "hf"
    out.mkdir()
    hf_tokenizer.save(tokenizer, out, seq_length=128)
    texts = TOPICS + ([] if "normalization_rule_name" in changes else random_texts(50))
    assert check_same_ids(tokenizer, out, texts) == len(texts) + len(PROBES)
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(out)
    assert (theirs.eos_token_id, theirs.pad_token_id, theirs.unk_token_id) == (1, 2, 0)
    assert (len(theirs), theirs.model_max_length) == (tokenizer.vocab_size, 128)
    assert theirs.decode([1, *tokenizer.encode("a b"), 2], skip_special_tokens=True) == "a b"


@pytest.mark.parametrize(
    ("algorithm", "changes", "named"),
    [
        ("word", {"vocab_size": 700}, "word model"),
        ("unigram", {}, "no exact counterpart"),  # ties between equal cuts of a run of stars
        ("bpe", {"user_defined_symbols": ["<s>"], "add_dummy_prefix": True}, "no exact counterpart"),
        ("bpe", {"treat_whitespace_as_suffix": True}, "suffix"),
    ],
)
def test_a_tokenizer_that_would_give_other_ids_is_refused(
    tmp_path: Path, algorithm: str, changes: dict[str, object], named: str
) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok", algorithm, **changes)  # type: ignore[arg-type]
    out = tmp_path / "hf"
    out.mkdir()
    with pytest.raises(DataError, match=named) as caught:
        hf_tokenizer.save(tokenizer, out, seq_length=128)
        check_same_ids(tokenizer, out, TOPICS)
    assert "sentencepiece-only" in str(caught.value) or named == "suffix"


def test_a_conversion_with_one_wrong_merge_is_noticed(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(tmp_path / "tok")
    out = tmp_path / "hf"
    out.mkdir()
    hf_tokenizer.save(tokenizer, out, seq_length=128)
    pipeline = json.loads((out / "tokenizer.json").read_text())
    del pipeline["model"]["merges"][0]
    (out / "tokenizer.json").write_text(json.dumps(pipeline))
    with pytest.raises(DataError, match="no exact counterpart"):
        check_same_ids(tokenizer, out)


def test_not_a_sentencepiece_model(tmp_path: Path) -> None:
    (tmp_path / "x.model").write_bytes(b"\xff\xff not a model")
    with pytest.raises(DataError, match="not a SentencePiece model"):
        hf_tokenizer.convert(tmp_path / "x.model")
    with pytest.raises(DataError):
        load_tokenizer(tmp_path / "x.model")
