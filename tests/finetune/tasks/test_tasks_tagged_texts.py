"""Tagged texts: from columns, lists and spans; compressed, in other encodings; bad records counted or refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError, DataError
from finetune.tasks.tag_config import TagData
from finetune.tasks.tagged_texts import TaggedParts, load_tagged
from tests.finetune.finetune_tags import tagged, write_conll


def load(path: Path, **changes: Any) -> TaggedParts:
    return load_tagged(TagData(**({"train_texts": [str(path)], "split": (0.8, 0.2, 0.0)} | changes)), seed=5)


def every(found: TaggedParts) -> dict[tuple[str, ...], tuple[str, ...]]:
    return {text.words: text.tags for part in found.parts.values() for text in part}


def test_columns_in_any_form(tmp_path: Path) -> None:
    plain = load(write_conll(tmp_path / "a.conll", tagged(50)))
    assert plain.scheme == {"train": "iob2"} and plain.labels == ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"]
    assert sum(map(len, plain.parts.values())) == 50 and set(plain.parts) == {"train", "validation"}
    assert plain.parts["train"][0].text == " ".join(plain.parts["train"][0].words)
    content = (tmp_path / "a.conll").read_bytes()
    (tmp_path / "b.bio.gz").write_bytes(gzip.compress(content.replace(b"\n", b"\r\n")))
    (tmp_path / "c.txt").write_text("-DOCSTART-\n\n" + content.decode(), encoding="utf-16")
    (tmp_path / "odd.name").write_bytes(content.replace(b" ", b" x y "))
    for name, changes in (
        ("b.bio.gz", {}), ("c.txt", {"encoding": "utf-16"}), ("odd.name", {"format": "conll"}),
    ):  # fmt: skip
        assert every(load(tmp_path / name, **changes)) == every(plain), name


def test_conllu_columns(tmp_path: Path) -> None:
    rows = ["1-2\tdel\t_\t_", "1\tde\tde\tADP", "2\tel\tel\tDET", "2.1\tx\tx\tX", "3\t#\t#\tSYM", "4\tmar\tmar\tNOUN"]
    block = "\n".join(f"{row}{chr(9).join([''] + ['_'] * 6)}" for row in rows)
    (tmp_path / "a.conllu").write_text(f"# text = del mar\n{block}\n\n# newpar\n\n{block.replace('mar', 'sol')}\n\n")
    found = load(tmp_path / "a.conllu", word_column=1, tag_column=3, split=(0.5, 0.5, 0.0))
    assert set(every(found)) == {("de", "el", "#", "mar"), ("de", "el", "#", "sol")}
    assert found.scheme == {"train": "none"} and "SYM" in found.labels


def test_documents_stay_together(tmp_path: Path) -> None:
    blocks = [f"-DOCSTART- O\n\nw{n} B-X\n\nv{n} O\n" for n in range(20)]
    (tmp_path / "a.conll").write_text("\n".join(blocks))
    found = load(tmp_path / "a.conll", split_by="document")
    sides = [{text.words[0][1:] for text in part} for part in found.parts.values()]
    assert sum(map(len, sides)) == 20 and all(sides)


def test_records_with_words_and_tags(tmp_path: Path) -> None:
    lines = [{"tokens": ["a", f"x{n}"], "tags": ["O", "B-X"], "id": n} for n in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = load(tmp_path / "a.jsonl")
    assert every(found)[("a", "x3")] == ("O", "B-X") and {text.id for text in found.parts["train"]} <= set(
        map(str, range(20))
    )
    numbers = [line | {"tags": [0, 1]} for line in lines]
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(numbers), tmp_path / "a.parquet")
    assert every(load(tmp_path / "a.parquet", tag_names=["O", "B-X"])) == every(found)
    with pytest.raises(DataError, match=r"'tags' holds 0[\s\S]*numbers with data\.tag_names"):
        load(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"has no field 'words'[\s\S]*data\.tokens_field"):
        load(tmp_path / "a.jsonl", tokens_field="words")


def test_texts_with_spans(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [
        {"text": f"In New-York, 张伟 met A{n}.", "spans": [[3, 11, "LOC"], {"start": 13, "end": 15, "label": "PER"}]}
        for n in range(10)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = load(tmp_path / "a.jsonl", text_field="text")
    text = found.parts["train"][0]
    assert text.words[:7] == ("In", "New", "-", "York", ",", "张", "伟")
    assert text.tags[:8] == ("O", "B-LOC", "I-LOC", "I-LOC", "O", "B-PER", "I-PER", "O")
    assert text.text in {line["text"] for line in lines}
    for span, named in (
        ([3, 5, "X"], "begins or ends within a word"),
        ([0, 99, "X"], "outside"),
        ([3, 4], "as a span"),
    ):
        bad = [*lines, {"text": "a word", "spans": [span]}]
        (tmp_path / "b.jsonl").write_text("".join(json.dumps(line) + "\n" for line in bad))
        with pytest.raises(DataError, match=named):
            load(tmp_path / "b.jsonl", text_field="text")
    both = [{"text": "a word", "spans": [[0, 6, "X"], [2, 6, "Y"]]}]
    (tmp_path / "b.jsonl").write_text(json.dumps(both[0]) + "\n")
    with pytest.raises(DataError, match="2 to 6 overlaps"):
        load(tmp_path / "b.jsonl", text_field="text")


def test_bad_records_are_counted_up_to_a_share(tmp_path: Path) -> None:
    lines: list[Any] = [{"tokens": ["a", f"x{n}"], "tags": ["O", "B-X"]} for n in range(18)]
    lines += [{"tokens": ["a"], "tags": ["O", "O"]}, {"tokens": ["a", "b"], "tags": ["O", "I-X"]}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(DataError, match="has 1 words and 2 tags"):
        load(tmp_path / "a.jsonl")
    found = load(tmp_path / "a.jsonl", max_malformed_share=0.1, scheme="iob2")
    assert found.malformed["train"].count == 2 and "1 words and 2 tags" in found.malformed["train"].first
    assert len(every(found)) == 18
    (tmp_path / "a.jsonl").write_text(text + "{broken\n")
    with pytest.raises(DataError, match=r"3 records cannot be used, the first: [\s\S]*at most 10\.00%"):
        load(tmp_path / "a.jsonl", max_malformed_share=0.1, scheme="iob2")


def test_each_part_has_its_own_scheme(tmp_path: Path) -> None:
    write_conll(tmp_path / "a.conll", tagged(30))
    (tmp_path / "b.conll").write_text("ada I-PER\n\nrome S-LOC\n".replace("I-PER", "S-PER"))
    found = load(tmp_path / "a.conll", test_texts=[str(tmp_path / "b.conll")])
    assert found.scheme == {"train": "iob2", "test": "iobes"}
    assert [text.tags for text in found.parts["test"]] == [("B-PER",), ("B-LOC",)]
    (tmp_path / "b.conll").write_text("ada B-CAR\n")
    found = load(tmp_path / "a.conll", test_texts=[str(tmp_path / "b.conll")])
    assert list(found.unknown_tags()) == [("test", 1, "B-CAR")]
    (tmp_path / "b.conll").write_text("ada NN\n")
    with pytest.raises(DataError, match="plain tags where training has entities"):
        load(tmp_path / "a.conll", test_texts=[str(tmp_path / "b.conll")])


def test_chinese_words_are_joined_without_spaces(tmp_path: Path) -> None:
    write_conll(
        tmp_path / "a.conll", [[(char, "O") for char in f"我在第{n}天看到"] + [("京", "B-LOC")] for n in "一二三四五"]
    )
    assert load(tmp_path / "a.conll", split=(0.6, 0.4, 0)).parts["train"][0].text.startswith("我在第")
    spaced = load(tmp_path / "a.conll", split=(0.6, 0.4, 0), join_words="space")
    assert spaced.parts["train"][0].text.startswith("我 在 第 ")


@pytest.mark.parametrize(
    ("content", "changes", "named"),
    [
        ("one\n", {}, r"line 1 has 1 columns[\s\S]*data\.word_column"),
        ("a B\n", {"tag_column": 4}, "line 1 has 2 columns"),
        ("a B\n\nb B\n", {}, "have one tag, 'B'"),
        ("", {}, "is empty"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: str, changes: dict[str, Any], named: str) -> None:
    (tmp_path / "a.conll").write_text(content)
    with pytest.raises(DataError, match=named):
        load(tmp_path / "a.conll", **changes)


def test_settings_that_contradict_are_refused(tmp_path: Path) -> None:
    for changes, named in (
        ({"text_field": "text", "scheme": "iob1"}, "entities are spans"),
        ({"text_field": "text", "tag_names": ["O"]}, "tag_names are of records"),
    ):
        with pytest.raises(ValueError, match=named):
            TagData(train_texts=["a.jsonl"], **changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"a\.conll, which by its ending has columns, and b\.jsonl"):
        load_tagged(TagData(train_texts=["a.conll"], test_texts=["b.jsonl"]), 0)
