"""Damaged and wrong input: counted, or one error that names file, value and what would be right."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from cleaning_inputs import write_json_lines
from datatrove.data import Document

from configs.errors import DataError
from configs.load import load_config
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counting import Counted
from data_prep.cleaning.counts import CleaningCounts
from data_prep.cleaning.plan import make_plan
from data_prep.cleaning.shard_files import CleanedWriter
from data_prep.cleaning.source_reader import SourceReader


def read(tmp_path: Path, *settings: str, paths: object) -> tuple[list, CleaningCounts]:
    """The documents and the counts of all tasks, in this process."""
    config = load_config(
        CleanConfig, None, [f"output={tmp_path}/o", "stages=[]", f"sources.s.input={json.dumps(paths)}", *settings]
    )
    documents, counts = [], CleaningCounts()
    for task in range(config.tasks):
        for part in make_plan(config).parts:
            own = CleaningCounts()
            step = Counted("read", SourceReader(part, config, own.stage("read")), own)
            documents += list(step.run(None, task, config.tasks))
            counts.add(own, 4)
    return documents, counts


def reasons(counts: CleaningCounts) -> dict[str, int]:
    stage = counts.stage("read")
    return {reason: sum(n for n, _ in by_source.values()) for reason, by_source in stage.reasons.items()}


def lines(count: int) -> list[object]:
    return [{"text": f"document {i} " + "é" * (i % 50), "id": f"d{i}", "n": i} for i in range(count)]


@pytest.mark.parametrize("unit_bytes", [50, 333, 4096, 10**9])
@pytest.mark.parametrize("tasks", [1, 5])
def test_a_divided_file_is_read_once(tmp_path: Path, unit_bytes: int, tasks: int) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", lines(200))
    documents, counts = read(tmp_path, f"work_unit_bytes={unit_bytes}", f"tasks={tasks}", paths=str(path))
    assert sorted(d.id for d in documents) == sorted(f"d{i}" for i in range(200))
    assert reasons(counts) == {} and counts.stage("read").tally("s").documents_in == 200


def test_ids_come_from_places_where_there_are_none(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "x" / "a.jsonl", [{"text": "one"}, {"text": "two", "id": 0}])
    documents, _ = read(tmp_path, paths=str(path))
    assert [d.id for d in documents] == ["s/a.jsonl@0", "0"]


def test_fields_never_shadow_what_the_pipeline_uses(tmp_path: Path) -> None:
    record = {"text": "t", "source": "mine", "token_count": "many", "rank": "../../x", "metadata": {"a": 1}}
    (document,), _ = read(tmp_path, paths=str(write_json_lines(tmp_path / "a.jsonl", [record])))
    assert document.metadata["source"] == "s"
    assert document.metadata["fields"] == {"a": 1, "source": "mine", "token_count": "many", "rank": "../../x"}


OUTER = {
    "body": "t",
    "source": "wikipedia",
    "url": "u-outer",
    "metadata": {"source": "inner", "url": "u-inner", "n": 1},
}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            ["text_field=body", "id_field=url", "metadata_fields=[source,url,metadata,nowhere]"],
            {"id": "u-outer", "original_source": "wikipedia", "url": "u-outer", "metadata": OUTER["metadata"]},
        ),
        (
            ["text_field=body", "metadata_fields=[url,n]"],
            {"id": "own", "url": "u-outer", "n": 1},
        ),
        (
            ["text_field=body", "id_field=url"],
            {
                "id": "u-outer",
                "original_source": "wikipedia",
                "n": 1,
                "metadata": {"source": "inner", "url": "u-inner"},
                "original_id": "own",
                "original_text": "no text",
                "language": "fr",
            },
        ),
        (
            ["text_field=body", "metadata_fields=[body,id,text]"],
            {"id": "own", "body": "t", "original_text": "no text"},
        ),
    ],
)
def test_fields_of_the_source_keep_their_values(tmp_path: Path, settings: list[str], expected: dict) -> None:
    record = OUTER | {"id": "own", "text": "no text", "language": "fr"}
    path = write_json_lines(tmp_path / "a.jsonl", [record])
    (document,), _ = read(tmp_path, *(f"sources.s.{setting}" for setting in settings), paths=str(path))
    writer = CleanedWriter(str(tmp_path / "shards"), None, final=True)
    list(writer.run([document]))
    published = json.loads((tmp_path / "shards" / "00000.jsonl").read_text())
    assert published == {"text": "t", "source": "s"} | expected


def test_renamed_fields_take_no_other_fields_name(tmp_path: Path) -> None:
    fields = {"source": 1, "language": 2, "original_source": 3}
    document = Document("t", "i", metadata={"source": "s", "fields": fields, "language": "en"})
    list(CleanedWriter(str(tmp_path), None, final=True).run([document]))
    published = json.loads((tmp_path / "00000.jsonl").read_text())
    assert published == {
        "text": "t",
        "id": "i",
        "source": "s",
        "language": "en",
        "original_original_source": 1,
        "original_language": 2,
        "original_source": 3,
    }


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_a_truncated_archive_is_an_error_or_counted(tmp_path: Path, ending: str) -> None:
    records = [{"text": f"document {i} {hash(str(i))}"} for i in range(20_000)]
    raw = "".join(json.dumps(r) + "\n" for r in records).encode()
    packed = gzip.compress(raw) if ending == "gz" else zstandard.ZstdCompressor().compress(raw)
    path = tmp_path / f"a.jsonl.{ending}"
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(DataError, match=rf"a\.jsonl\.{ending}: breaks off or is damaged"):
        read(tmp_path, "tasks=1", paths=str(path))
    documents, counts = read(tmp_path, "tasks=1", "max_damaged_files=1", paths=str(path))
    assert 1000 < len(documents) < 20_000 and reasons(counts) == {"damaged_file": 1}


def test_a_broken_parquet_file_and_a_wrong_column(tmp_path: Path) -> None:
    pq.write_table(pa.table({"txet": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="has no column 'text'") as error:
        read(tmp_path, paths=str(tmp_path / "a.parquet"))
    assert error.value.nearest == "txet"
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="breaks off or is damaged"):
        read(tmp_path, paths=str(tmp_path / "a.parquet"))


def test_malformed_lines_are_counted_up_to_the_share(tmp_path: Path) -> None:
    bad: list[object] = ["[1]", "nonsense", '"x"']
    path = write_json_lines(tmp_path / "a.jsonl", lines(1500) + bad)
    documents, counts = read(tmp_path, "tasks=1", paths=str(path))
    assert len(documents) == 1500 and sum(reasons(counts).values()) == 3
    path = write_json_lines(tmp_path / "a.jsonl", lines(1000) + bad * 20)
    with pytest.raises(DataError, match=r"sources\.s, .*a\.jsonl: 60 of 1060 records are malformed"):
        read(tmp_path, "tasks=1", paths=str(path))


def test_strict_stops_at_the_first(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [*lines(5), "{"])
    with pytest.raises(DataError, match=r"sources\.s, .*a\.jsonl, line 6: is not valid JSON: unexpected end"):
        read(tmp_path, "max_malformed_share=0", "tasks=1", paths=str(path))


def test_a_field_that_no_record_has_is_told_with_the_nearest(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [{"txt": "a"}] * 200)
    with pytest.raises(DataError, match=r"200 of 200 records .* no field 'text', only txt; did you mean txt"):
        read(tmp_path, "tasks=1", paths=str(path))


def test_a_huge_document_is_dropped_and_counted(tmp_path: Path) -> None:
    path = write_json_lines(tmp_path / "a.jsonl", [{"text": "x" * 5000}, {"text": "small"}])
    documents, counts = read(tmp_path, "max_document_chars=4000", paths=str(path))
    assert [d.text for d in documents] == ["small"] and reasons(counts) == {"too_long": 1}
    assert counts.stage("read").samples["too_long"][0].text == "x" * 600


def test_csv_fields_may_be_long_and_rows_broken(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b'text,n\n"' + b"long " * 50_000 + b'",1\n"two\nlines",2\n\xff,3\n')
    documents, counts = read(tmp_path, paths=str(tmp_path / "a.csv"))
    assert [len(d.text) for d in documents] == [250_000, 9]
    assert reasons(counts) == {"malformed: bytes that are not UTF-8": 1}


def test_a_csv_row_of_another_length_is_malformed(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"n,text\n1,hello, world with a comma\n2,whole\n3\n\n4,last\n")
    documents, counts = read(tmp_path, "max_malformed_share=0.5", "tasks=1", paths=str(tmp_path / "a.csv"))
    assert [d.text for d in documents] == ["whole", "last"]
    assert reasons(counts) == {
        "malformed: 3 fields for 2 columns": 1,
        "malformed: 1 fields for 2 columns": 1,
    }
    sample = counts.stage("read").samples["malformed: 3 fields for 2 columns"][0]
    assert (sample.text, sample.detail) == ("1,hello, world with a comma", "line 2")
    with pytest.raises(DataError, match=r"a\.csv, line 2: has 3 fields\n  expected: 2 fields of UTF-8, with"):
        read(tmp_path, "max_malformed_share=0", paths=str(tmp_path / "a.csv"))


@pytest.mark.parametrize("rest", [b"2,b\n" * 5000, b""])
def test_a_csv_quote_that_never_ends_is_damage(tmp_path: Path, rest: bytes) -> None:
    (tmp_path / "a.csv").write_bytes(b'n,text\n1,a\n1,"stray\n' + rest)
    with pytest.raises(DataError, match=r"a.csv, line 3: breaks off or is damaged: a quoted field .* does not end"):
        read(tmp_path, paths=str(tmp_path / "a.csv"))
    documents, counts = read(tmp_path, "max_damaged_files=1", paths=str(tmp_path / "a.csv"))
    assert [d.text for d in documents] == ["a"] and reasons(counts) == {"damaged_file": 1}


def test_csv_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"text,text\na,b\n")
    with pytest.raises(DataError, match="has two columns 'text'"):
        read(tmp_path, paths=str(tmp_path / "a.csv"))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("remote", [False, True])
def test_a_saved_dataset_is_what_its_state_names(tmp_path: Path, several: bool, remote: bool) -> None:
    root = f"memory://saved{several}" if remote else str(tmp_path / "saved")
    folder = f"{root}/train" if several else root
    files = {"data-00000-of-00001.arrow": ["one", "two"], "cache-1a2b3c.arrow": ["one, mapped", "two, mapped"]}
    for name, texts in files.items():
        table = pa.table({"text": texts})
        with fsspec.open(f"{folder}/{name}", "wb", auto_mkdir=True) as sink:
            with pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
    states = {f"{folder}/state.json": {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}}
    if several:
        states[f"{root}/dataset_dict.json"] = {"splits": ["train"]}
    for path, state in states.items():
        with fsspec.open(path, "w") as stream:
            json.dump(state, stream)
    documents, _ = read(tmp_path, paths=root)
    assert [d.text for d in documents] == ["one", "two"]
    if several:
        with pytest.raises(DataError, match="has no split 'trains'") as error:
            read(tmp_path, "sources.s.dataset_split=trains", paths=root)
        assert error.value.nearest == "train"
    with fsspec.open(f"{folder}/state.json", "w") as stream:
        stream.write("{}")
    with pytest.raises(DataError, match=r"state\.json: has no list '_data_files'"):
        read(tmp_path, paths=root)


def test_urls_of_other_file_systems(tmp_path: Path) -> None:
    with fsspec.open("memory://bucket/deep/a.jsonl", "wb") as stream:
        stream.write(b'{"text": "from afar"}\n')
    documents, _ = read(tmp_path, paths="memory://bucket/**/*.jsonl")
    assert [(d.text, d.id) for d in documents] == [("from afar", "s/a.jsonl@0")]


@pytest.mark.parametrize(
    ("paths", "problem", "close"),
    [
        ("{}/a.jsnl", "there is no such input", "a.jsonl"),
        ("{}/x.bin", "is of an unknown kind", None),
        ("nowhere://x", "Protocol not known", None),
        (["{}/a.jsonl", "memory://y/z.jsonl"], "there is no such file", None),
    ],
)
def test_paths_that_mean_nothing(tmp_path: Path, paths: object, problem: str, close: str | None) -> None:
    write_json_lines(tmp_path / "a.jsonl", lines(1))
    (tmp_path / "x.bin").write_bytes(b"x")
    given = json.loads(json.dumps(paths).replace("{}", str(tmp_path)))
    with pytest.raises(DataError, match=problem) as error:
        read(tmp_path, paths=given)
    assert close is None or str(error.value.nearest).endswith(close)


def test_sampling_takes_the_same_documents_whatever_the_tasks(tmp_path: Path) -> None:
    from data_prep.cleaning.phases import ReadSources

    path = write_json_lines(tmp_path / "a.jsonl", lines(2000))
    taken = []
    for tasks in (1, 4):
        config = load_config(
            CleanConfig,
            None,
            [
                "output=o",
                "stages=[]",
                f"sources.s.input={path}",
                "sources.s.rate=0.3",
                f"tasks={tasks}",
                "work_unit_bytes=9999",
            ],
        )
        step = ReadSources(config, make_plan(config), CleaningCounts(), (0, 0))
        taken.append(sorted(d.id for task in range(tasks) for d in step.run(None, task, tasks)))
    assert taken[0] == taken[1] and 540 < len(taken[0]) < 660
