"""A call without arguments reads text as pretraining did, and the spelling of a special token is the token."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer, load_tokenizer
from data_prep.tokenizer.importing import import_tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.document_start import trained_text
from finetune.huggingface.export import export
from finetune.huggingface.plain_call import PlainCall
from finetune.huggingface.tokenizer_check import check_plain_call
from pretrain.models.encoder.bert_config import BertConfig
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import LINES, train_tokenizer
from tests.tokenizer_kinds import huggingface_bpe

TEXT = "The try statement"
MARKERS = ["<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """With a token for the beginning of documents, as `train-tokenizer` makes them."""
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tok"), bos_id=3, bos_piece="<s>", control_symbols=symbols)


def loaded(directory: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory)


def exported(tokenizer: Tokenizer, place: Path, **metadata: object) -> Path:
    write_run(place / "run", llama(tokenizer), tokenizer, metadata=metadata)
    export(ExportConfig(model=place / "run", output=place / "out", sequences=1), reference=oracle_outputs)
    return place / "out"


def fields_of(directory: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / name).read_text())
    return found


def test_the_token_that_pretraining_never_saw_begins_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    out = exported(tokenizer, tmp_path)
    theirs, end = loaded(out), tokenizer.role("end_of_document")
    assert theirs(TEXT)["input_ids"] == tokenizer.encode(TEXT)
    assert theirs(TEXT, "x")["input_ids"] == [*tokenizer.encode(TEXT), *tokenizer.encode("x")]
    assert tokenizer.role("beginning_of_document") == 3 != end
    for name in ("config.json", "generation_config.json"):
        fields = fields_of(out, name)
        assert fields["bos_token_id"] == fields["eos_token_id"] == end
    assert theirs.bos_token_id == theirs.eos_token_id == end
    record = fields_of(out, "export.json")["document_start"]
    assert record == {"id": end, "token": "<|endoftext|>", "in_each_text": False, "recorded_by_pretraining": False}
    assert "| a document begins after | `<|endoftext|>` |" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("borders", "begin_id", "in_each_text"),
    [((None, 1), 1, False), ((3, 1), 3, True), ((3, None), 3, True), ((None, None), None, False)],
)
def test_what_pretraining_saw_between_documents_decides(
    borders: tuple[int | None, int | None],
    begin_id: int | None,
    in_each_text: bool,
    tokenizer: Tokenizer,
    tmp_path: Path,
) -> None:
    out = exported(tokenizer, tmp_path, document_borders=dict(zip(("begin_id", "end_id"), borders)))
    theirs = loaded(out)
    assert theirs(TEXT)["input_ids"] == [*([3] if in_each_text else []), *tokenizer.encode(TEXT)]
    assert theirs.bos_token_id == fields_of(out, "config.json").get("bos_token_id") == begin_id
    record = fields_of(out, "export.json")["document_start"]
    assert (record["id"], record["in_each_text"], record["recorded_by_pretraining"]) == (begin_id, in_each_text, True)


def test_special_tokens_by_text_are_one_id(tokenizer: Tokenizer, tmp_path: Path) -> None:
    theirs = loaded(exported(tokenizer, tmp_path))
    for number in range(7):  # unknown, end, pad, begin, mask, classification, separator
        spelling = tokenizer.piece(number)
        expected = [*tokenizer.encode("a"), number, *tokenizer.encode(" b")]
        assert theirs(f"a{spelling} b")["input_ids"] == expected
        kept = theirs(f"a{spelling} b", split_special_tokens=True)["input_ids"]
        assert kept == tokenizer.encode(f"a{spelling} b") and number not in kept
    assert theirs("Q: x A: y" + theirs.eos_token)["input_ids"][-1] == theirs.eos_token_id
    assert theirs.add_special_tokens({"additional_special_tokens": MARKERS}) == 2
    added = theirs("<|im_start|>user\nx<|im_end|>")["input_ids"]
    assert (added[0], added[-1]) == (tokenizer.vocab_size, tokenizer.vocab_size + 1)


def test_a_template_of_another_project_does_not_survive(tmp_path: Path) -> None:
    """It ends each text; pretraining saw that only at the end of documents."""
    foreign = huggingface_bpe(tmp_path / "foreign", LINES)
    assert json.loads((foreign / "tokenizer.json").read_text())["post_processor"]["type"] == "TemplateProcessing"
    tokenizer = import_tokenizer(foreign, tmp_path / "own", {}, None, False)
    theirs = loaded(exported(tokenizer, tmp_path))
    assert theirs(TEXT)["input_ids"] == tokenizer.encode(TEXT)
    assert theirs(f"{TEXT}<|end|>")["input_ids"] == [*tokenizer.encode(TEXT), tokenizer.role("end_of_document")]


def test_what_begins_a_text_of_an_encoder(tokenizer: Tokenizer) -> None:
    sizes = {"num_layers": 1, "hidden_size": 8, "num_attention_heads": 1, "seq_length": 16, "vocab_size": 420}
    model, (cls, sep) = BertConfig(**sizes), (5, 6)
    for number, role in ((cls, "classification"), (sep, "separator")):
        assert tokenizer.role(role) == number
    with_tokens = trained_text(model, {}, tokenizer)
    assert (with_tokens.ids.begin_of_document, with_tokens.call.before, with_tokens.call.after) == (cls, cls, sep)
    objective = {"config": {"objective": {"name": "masked", "add_special_tokens": False}}}
    without = trained_text(model, objective, tokenizer)
    assert (without.ids.begin_of_document, without.call.before, without.call.after) == (1, None, None)


@pytest.mark.parametrize("written", [PlainCall(before=3), PlainCall(after=1), PlainCall(keeps_spellings=True)])
def test_another_call_than_the_one_trained_on_is_refused(
    written: PlainCall, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    hf_tokenizer.save(tokenizer, tmp_path, 64, call=written)
    check_plain_call(tokenizer, tmp_path, written)
    with pytest.raises(DataError, match=r"transformers' tokenizer reads .* from token \d+ of \d+\s.*trained"):
        check_plain_call(tokenizer, tmp_path, PlainCall())


def test_sentinels_by_text_are_one_id(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(huggingface_bpe(tmp_path / "foreign", LINES))
    assert len(tokenizer.sentinels) == 2
    hf_tokenizer.save(tokenizer, tmp_path, 64)
    check_plain_call(tokenizer, tmp_path, PlainCall())
    assert loaded(tmp_path)("<extra_id_1>")["input_ids"] == [tokenizer.sentinels[1]]
    # Version 4 of transformers knows the list under this name only.
    assert fields_of(tmp_path, "tokenizer_config.json")["additional_special_tokens"] == ["<extra_id_0>", "<extra_id_1>"]


def test_the_vocabulary_lies_where_converters_look(tokenizer: Tokenizer, tmp_path: Path) -> None:
    import sentencepiece

    out = exported(tokenizer, tmp_path)
    theirs = sentencepiece.SentencePieceProcessor(str(out / "tokenizer.model"))
    assert theirs.encode(TEXT) == tokenizer.encode(TEXT)
    fields = fields_of(out, "tokenizer_config.json")
    assert fields["add_bos_token"] is False and fields["add_eos_token"] is False  # else they take it that one is added
