"""Questions: from SQuAD's JSON and records, compressed and in other encodings; windows; bad records."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import DataError
from finetune.pair_form import PairForm
from finetune.tasks.qa_config import QaData
from finetune.tasks.qa_texts import Question, QuestionParts, load_questions
from finetune.tasks.qa_windows import encode_questions
from tests.finetune.finetune_questions import squad, write_squad


def load(path: Path, **changes: Any) -> QuestionParts:
    return load_questions(QaData(**({"train_texts": [str(path)], "split": (0.8, 0.2, 0.0)} | changes)), seed=5)


def every(found: QuestionParts) -> set[tuple[Any, ...]]:
    return {(q.id, q.question, q.context, q.answers) for part in found.parts.values() for q in part}


def records(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"context": p["context"], "id": q["id"], "question": q["question"], "answers": q["answers"]}
        for article in content["data"] for p in article["paragraphs"] for q in p["qas"]
    ]  # fmt: skip


def test_squad_and_records_are_the_same(tmp_path: Path) -> None:
    content = squad(40)
    expected = load(write_squad(tmp_path / "a.json", content))
    assert len(every(expected)) == 40 and sum(expected.unanswered().values()) == 10
    (tmp_path / "b.json.gz").write_bytes(gzip.compress((tmp_path / "a.json").read_bytes()))
    (tmp_path / "c.json").write_text(json.dumps(content), encoding="utf-16")
    (tmp_path / "d.jsonl").write_text("".join(json.dumps(line) + "\n" for line in records(content)))
    columns = [
        line | {"answers": {key: [a[key] for a in line["answers"]] for key in ("text", "answer_start")}}
        for line in records(content)
    ]
    (tmp_path / "e.json").write_text(json.dumps(columns, indent=1))
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(columns), tmp_path / "f.parquet")
    for name, changes in (
        ("b.json.gz", {}), ("c.json", {"encoding": "utf-16"}), ("d.jsonl", {}), ("e.json", {}), ("f.parquet", {}),
    ):  # fmt: skip
        assert every(load(tmp_path / name, **changes)) == every(expected), name


def test_questions_on_one_context_stay_together(tmp_path: Path) -> None:
    asked = [{"id": str(n), "question": f"what {n}?", "answers": [{"text": "x", "answer_start": 0}]} for n in range(4)]
    paragraphs = [
        {"context": f"x {n}", "qas": [each | {"id": f"{n}-{each['id']}"} for each in asked]} for n in range(9)
    ]
    found = load(write_squad(tmp_path / "a.json", {"data": [{"paragraphs": paragraphs}]}))
    sides = [{question.context for question in part} for part in found.parts.values()]
    assert not sides[0] & sides[1] and sum(map(len, sides)) == 9


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"answers": [{"text": "rome", "answer_start": 3}]}, r"'rome' does not stand at character 3, where 'y x' does"),
        ({"answers": [{"text": "only", "answer_start": -1}]}, "does not stand at character -1"),
        ({"answers": [{"text": "only"}]}, "its answer is"),
        ({"answers": "only"}, "its answers are 'only'"),
        ({"question": " "}, "its question is ' '"),
        ({"context": " "}, "its context is empty"),
    ],
)
def test_bad_records_are_refused_or_counted(tmp_path: Path, change: dict[str, Any], named: str) -> None:
    lines = records(squad(19))
    bad = {"id": "bad", "question": "q", "context": "only x", "answers": []} | change
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, bad]))
    with pytest.raises(DataError, match=named):
        load(tmp_path / "a.jsonl")
    found = load(tmp_path / "a.jsonl", max_malformed_share=0.05)
    assert found.malformed["train"].count == 1 and len(every(found)) == 19


def test_files_that_hold_no_questions(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"data": ["x"]}))
    with pytest.raises(DataError, match="its 'data' is no list of objects"):
        load(tmp_path / "a.json")
    (tmp_path / "b.jsonl").write_text(json.dumps({"question": "q", "text": "c"}) + "\n")
    with pytest.raises(DataError, match=r"no field 'context'[\s\S]*data\.context_field"):
        load(tmp_path / "b.jsonl")
    none = {"question": "q", "context": "c", "answers": []}
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(none | {"context": f"c {n}"}) + "\n" for n in range(9)))
    with pytest.raises(DataError, match="has no question with an answer"):
        load(tmp_path / "c.jsonl")


class Letters:
    """A tokenizer whose tokens are characters."""

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        return [[ord(char) for char in text] for text in texts]


def test_windows_hold_the_context_and_say_where_the_answer_is() -> None:
    form = PairForm(20, 0, (1,), (2,), (2,), True)
    data = QaData(train_texts=["x"], max_tokens=20, max_question_tokens=3, stride=5)  # type: ignore[arg-type]
    context = "one two rome, and more of it"
    question = Question("a", "where", context, (("rome", 8),), "g")
    encoded = encode_questions([question], Letters(), form, data, is_encoder=True)  # type: ignore[arg-type]
    assert encoded.cut_questions == 1 and encoded.within_words == 0 and encoded.weights == [3.0]
    seen: set[int] = set()
    answered = 0
    for window in encoded.windows[0]:
        assert window.row[:5] == [1, *map(ord, "whe"), 2] and window.row[-1] == 2 and len(window.row) <= 20
        assert window.types == [0] * 5 + [1] * (len(window.row) - 5)
        seen |= set(window.words)
        if window.gold != (0, 0):
            answered += 1
            assert "".join(map(chr, window.row[window.gold[0] : window.gold[1] + 1])).strip() == "rome"
    assert seen == set(range(len(encoded.contexts[0].words))) and answered >= 1
    part = Question("a", "w", context, (("om", 9),), "g")
    assert encode_questions([part], Letters(), form, data, is_encoder=True).within_words == 1  # type: ignore[arg-type]
    nothing = encode_questions([Question("a", "w", "x", (), "g")], Letters(), form, data, is_encoder=False)  # type: ignore[arg-type]
    window = nothing.windows[0][0]
    assert window.gold == (len(window.row) - 1,) * 2, "a decoder's first token sees nothing else"


def test_pairs_are_cut_as_transformers_cuts_them() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    form = PairForm(12, 0, (), (), (), False)
    theirs = Tokenizer(WordLevel({"a": 5, "b": 6, "[UNK]": 0}, "[UNK]"))
    theirs.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    theirs.enable_truncation(12, strategy="longest_first")
    for one in range(16):
        for other in range(16):
            first, second = form.cut([5] * one, [6] * other)
            assert first + second == theirs.encode("a " * one, "b " * other).ids, (one, other)
