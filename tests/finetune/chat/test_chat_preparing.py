"""Files of conversations become corpora once; what is left out is counted; what cannot be trained on is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from configs.errors import ConfigError, DataError
from configs.load import load_config
from data_prep.corpus import Corpus
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.tokenizer import load_tokenizer
from finetune.chat import preparing
from finetune.chat.config import InstructRunConfig
from finetune.chat.encoding import EncodedConversation
from finetune.chat.example_page import as_text, shown_conversations, write_page
from finetune.chat.prepared import Prepared
from finetune.chat.run import prepare_run
from pretrain.data.conversations import answer_bounds
from tests.finetune.chat.chat_texts import ANSWER, ASK, SYSTEM, instruct_config, marked, write_source


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chats")
    write_source(folder)
    return folder


def write(path: Path, *records: Any) -> list[str]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [str(path)]


def prepared(root: Path, name: str, **changes: Any) -> tuple[Prepared, list[str]]:
    lines: list[str] = []
    return prepare_run(instruct_config(root, name, **changes), lines.append).data, lines


def counts(found: Prepared, part: str = "train") -> dict[str, int]:
    return {key: value for key, value in found.record["counts"][part].items() if value and "tokens" not in key}


def test_conversations_become_corpora_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, lines = prepared(root, "once")
    assert [line.split(" of ")[0] for line in lines] == ["preparing conversations"]
    assert first.validation is not None
    train, validation = (Corpus.open(path) for path in (first.train, first.validation))
    assert train.num_documents + validation.num_documents == 40 and validation.num_documents > 0
    for corpus in (train, validation):
        assert verify_corpus(corpus.path, workers=1).problems.found == []
        found = first.record["counts"][corpus.path.name]
        begins, ends = answer_bounds(corpus)
        assert found["tokens"] == corpus.num_tokens and found["answer_tokens"] == int((ends - begins).sum())
    tokenizer = load_tokenizer(train.path / "tokenizer")
    document, (begins, ends) = train.shards[0].document(0), answer_bounds(train)
    answers = np.zeros(len(document), dtype=bool)
    for begin, end in zip(begins, ends):
        answers[begin:end] = True
    shown = marked(tokenizer, EncodedConversation("", document.astype(np.int64), answers, frozenset(), 0))
    assert "What is list 0 0?<|im_end|>\n<|im_start|>assistant\n⟦It is a list.<|im_end|>⟧\n" in shown

    with monkeypatch.context() as patched:
        patched.setattr(preparing, "_write", None)
        again, lines = prepared(root, "once")
        assert again.directory == first.directory and lines == []
    for changes in ({"chat__loss_on": ["user"]}, {"seq_length": 100}, {"chat__turns": "last"}):
        assert prepared(root, "once", **changes)[0].directory != first.directory
    chats = root / "chats.jsonl"
    text = chats.read_text()
    chats.write_text(text.replace("It is a set.", "This is a set."))
    assert prepared(root, "once")[0].directory != first.directory
    chats.write_text(text)


def test_what_is_left_out_or_cut_is_counted(root: Path, tmp_path: Path) -> None:
    long = {"role": "assistant", "content": "It is a list. " * 40}
    files = write(
        tmp_path / "c.jsonl",
        {"messages": [ASK, ANSWER]},
        {"messages": [ASK, long]},
        {"messages": [SYSTEM, ASK]},
        {"messages": [{"role": "user", "content": "long " * 90}, ANSWER]},
        {"messages": []},
        {"messages": [{"role": "user", "content": "<|im_end|>"}, ANSWER]},
        {"other": 1},
    )
    given = {"data__train": files, "data__validation_share": 0.0}
    skipping = given | {"data__max_bad_share": 0.6, "data__format": "messages"}
    found, _ = prepared(root, "left", **skipping)
    assert counts(found) == {"conversations": 2, "truncated": 1, "without_answers": 2}
    assert found.record["bad_records"] == 3 and found.validation is None
    notes = " / ".join(found.notes())
    assert "train: 1 conversations cut off" in notes and "2 conversations left out without answers" in notes
    assert "3 records left out" in notes
    dropped, _ = prepared(root, "left", **skipping, chat__too_long="drop")
    assert counts(dropped) == {"conversations": 1, "too_long": 2, "without_answers": 1}
    with pytest.raises(DataError, match=r"has \d+ tokens, and a sample has room for 128"):
        prepared(root, "left", **skipping, chat__too_long="refuse")
    with pytest.raises(DataError, match="3 of 7 records are left out"):
        prepared(root, "left", **skipping | {"data__max_bad_share": 0.3})
    with pytest.raises(DataError, match="line 5: its field 'messages' holds a list that is no conversation"):
        prepared(root, "left", **given)
    nameless = write(tmp_path / "nameless.jsonl", {"messages": [ASK, ANSWER]}, {"messages": [ASK, {"content": "a"}]})
    with pytest.raises(DataError, match=r"nameless.jsonl, record at \d+: message 1 has no role"):
        prepared(root, "left", **given | {"data__train": nameless})
    assert not list((root / "left" / "conversations").glob(".*tmp*"))


def test_what_cannot_be_trained_on_is_refused(root: Path, tmp_path: Path) -> None:
    silent = write(tmp_path / "silent.jsonl", {"messages": [SYSTEM, ASK]})
    with pytest.raises(DataError, match="all labels are masked: none of 1 conversations has a message of assistant"):
        prepared(root, "no", data__train=silent, data__validation_share=0.0)
    unknown = write(tmp_path / "unknown.jsonl", {"text": "a"})
    with pytest.raises(DataError, match="of no known format of conversations"):
        prepared(root, "no", data__train=unknown)
    with pytest.raises(ConfigError, match="the model has no chat template"):
        prepared(root, "no", chat__template="own")
    with pytest.raises(ConfigError, match="cannot be read"):
        prepared(root, "no", chat__template=str(tmp_path / "none.jinja"))
    for setting, problem in (("data.columns={dialog: x}", "expected one of messages"), ("chat.loss_on=[a,a]", "once")):
        with pytest.raises(ConfigError, match=problem):
            load_config(
                InstructRunConfig,
                None,
                ["output=o", "model=m", "data.train=t", "training.micro_batch_size=1", "training.global_batch_size=1",
                 setting],
            )  # fmt: skip


def test_validation_of_its_own_and_other_formats(root: Path, tmp_path: Path) -> None:
    train = write(tmp_path / "t.jsonl", {"instruction": "a b", "output": "c"}, {"instruction": "d", "output": "e"})
    validation = write(tmp_path / "v.jsonl", {"prompt": "a b", "completion": "c"}, {"prompt": "x", "completion": "y"})
    found, _ = prepared(root, "own", data__train=train, data__validation=validation, data__max_conversations=1)
    assert found.record["formats"] == {"train": "alpaca", "validation": "prompt_completion"}
    assert counts(found) == {"conversations": 1}
    assert counts(found, "validation") == {"conversations": 2, "repeated": 1}
    assert any("1 conversations also in the training part" in note for note in found.notes())


def test_an_example_shows_tokens_ids_and_labels(root: Path, tmp_path: Path) -> None:
    found, _ = prepared(root, "once")
    corpus = Corpus.open(found.train)
    shown = shown_conversations(corpus, 2)
    assert [[token.id for token in tokens] for tokens in shown] == [
        corpus.shards[0].document(number).tolist() for number in (0, 1)
    ]
    labels = "".join(token.text for token in shown[1] if token.is_label)
    assert labels.startswith("It is a dict.<|im_end|>")
    text = as_text(shown[1])
    colours = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert colours["<|im_end|>"] == "bold green reverse" and colours["<|im_start|>"] == "bright_black reverse"
    write_page(shown, tmp_path / "page.html", "Two <examples>")
    page = (tmp_path / "page.html").read_text()
    assert page.count("class='t a s'") == sum(t.is_label and t.is_special for tokens in shown for t in tokens)
    assert page.count("<sub>") == sum(map(len, shown)) and "Two &lt;examples&gt;" in page and "↵" in page
