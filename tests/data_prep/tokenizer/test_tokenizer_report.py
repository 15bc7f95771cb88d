"""`tokenizer-report`: figures that can be counted by hand."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import orjson
import pytest
from data_prep_helpers import trained

from configs.columns import width
from data_prep.tokenizer import load_tokenizer
from data_prep.tokenizer.report import OTHERS, measure_tokenizers
from data_prep.tokenizer.report_config import TokenizerReportConfig
from data_prep.tokenizer.report_table import table_lines
from tests.tokenizer_kinds import huggingface_wordpiece

RECORDS = {
    "one.jsonl": [
        {"text": "the the the", "language": "en"},
        {"text": "Zoë ☃", "language": "de"},
        {"text": "", "language": "de"},
    ],
    "two.jsonl": [{"text": "日本語の文章", "language": "ja"}, {"text": "no language"}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("report")
    for name, records in RECORDS.items():
        (root / name).write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    return root


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory, text_file):
    root = tmp_path_factory.mktemp("vocabularies")
    characters = trained(text_file, root / "characters", "char").model_path.parent
    return [str(characters), str(huggingface_wordpiece(root, ["the no language"] * 9))]


@pytest.fixture(scope="module")
def report(files, vocabularies):
    return measure_tokenizers(TokenizerReportConfig(input=[str(files)], tokenizers=vocabularies))


def test_groups(report):
    found = {(group.kind, group.name.rpartition("/")[2]): group for group in report.groups}
    assert list(found) == [
        ("all", "all"), ("file", "two.jsonl"), ("file", "one.jsonl"),
        ("language", "ja"), ("language", "en"), ("language", "de"),
    ]  # fmt: skip
    assert (report.documents, report.text_bytes) == (4, 11 + 8 + 18 + 11)
    assert found["language", "ja"].unit == "character" and found["language", "ja"].units == 6
    assert found["language", "en"].unit == "word" and found["language", "en"].units == 3
    assert found["all", "all"].units == 3 + 2 + 6 + 2 and found["all", "all"].unit == "word or character"


def test_units_of_mixed_text(tmp_path, vocabularies):
    (tmp_path / "t.txt").write_text("我喜欢 Python3 和 C++，真的。 two words")
    report = measure_tokenizers(TokenizerReportConfig(input=[str(tmp_path)], tokenizers=vocabularies[:1]))
    characters, words = list("我喜欢和真的"), ["Python3", "C++，", "。", "two", "words"]
    assert report.groups[0].units == len(characters) + len(words) and report.groups[0].unit == "character"
    tokens = len(load_tokenizer(vocabularies[0]).encode("我喜欢 Python3 和 C++，真的。 two words"))
    assert report.tokenizers[0].groups[0].fertility == tokens / 11
    assert report.to_json()["groups"][0]["characters"] == 11


def test_figures_of_single_characters(report, vocabularies):
    figures = dict(zip([group.name for group in report.groups], report.tokenizers[0].groups))
    tokenizer = load_tokenizer(vocabularies[0])
    english = figures["en"]
    assert (english.bytes_per_token, english.fertility) == (1, 11 / 3)
    assert (english.unknown_rate, english.byte_rate, english.round_trip) == (0, 0, 1)
    ids = tokenizer.encode("Zoë ☃")
    assert figures["de"].bytes_per_token == 8 / len(ids)
    assert figures["de"].byte_rate == tokenizer.byte_tokens()[ids].mean() > 0
    used = {token for records in RECORDS.values() for record in records for token in tokenizer.encode(record["text"])}
    assert report.tokenizers[0].ids_in_use == pytest.approx(len(used) / tokenizer.vocab_size)
    assert report.tokenizers[0].first_failure is None


def test_line_breaks_are_counted_apart(tmp_path, vocabularies):
    (tmp_path / "t.txt").write_text("a\n\tb☃")
    figures = measure_tokenizers(TokenizerReportConfig(input=[str(tmp_path)], tokenizers=vocabularies[:1])).tokenizers[
        0
    ]
    assert (figures.groups[0].layout_byte_rate, figures.groups[0].byte_rate) == (2 / 7, 3 / 7)


def test_what_is_lost_is_shown(report):
    words = report.tokenizers[1]
    by_name = dict(zip([group.name for group in report.groups], words.groups))
    assert by_name["en"].unknown_rate == 0 and by_name["en"].round_trip == 1
    assert by_name["ja"].unknown_rate == 1 and by_name["ja"].round_trip == 0
    assert by_name["all"].round_trip == 0.5
    assert words.first_failure is not None and "comes back as" in words.first_failure
    assert words.longest_pieces[0] in ("language", "##anguage", "##nguage") and len(words.longest_pieces) == 5


def test_few_groups_and_another_field(files, vocabularies):
    config = TokenizerReportConfig(input=[str(files)], tokenizers=vocabularies[:1], max_groups=1, group_by="none")
    groups = measure_tokenizers(config).groups
    assert [(group.kind, group.name.rpartition("/")[2]) for group in groups] == [
        ("all", "all"), ("file", "two.jsonl"), ("file", OTHERS),
    ]  # fmt: skip
    assert sum(group.text_bytes for group in groups[1:]) == groups[0].text_bytes
    assert np.array_equal(np.sort(np.concatenate([group.documents for group in groups[1:]])), np.arange(4))


def test_the_table_is_aligned(report):
    lines = list(table_lines(report))
    assert lines[0] == "4 documents, 48 bytes of text"
    header = lines[2].split()
    assert header == ["characters", "words.json"]
    assert all(len(line) == len(lines[3]) for line in lines[3:11])
    assert any(line.startswith("words.json loses text: a document of") for line in lines)
    assert any("/char" in line and "ja" in line for line in lines)
    assert "/mixed: tokens per word or character of a script written without spaces" in lines


def test_many_tokenizers_and_wide_names_fit_a_line(report):
    one, two = report.tokenizers
    many = [replace(one, tokenizer=f"runs/{n}/分词器 of a rather long name, number {n}") for n in range(5)]
    groups = [*report.groups, replace(report.groups[-1], name="很长的文件名" * 20)]
    figures = [
        replace(t, groups=[*t.groups, t.groups[-1]], longest_pieces=[], first_failure=None) for t in (*many, two)
    ]
    lines = list(table_lines(replace(report, groups=groups, tokenizers=figures)))
    assert max(map(width, lines)) <= 130
    assert all(sum(line.endswith(f"number {n}") or f"number {n} " in line for line in lines) == 7 for n in range(5))
    rows = [line for line in lines if line.endswith(" %") and "ids" not in line]
    table = [line for line in rows if any(f"number {n} " in line for n in range(5))]
    assert len({width(line) for line in table}) == 1 and len(table) == 5 * 6
    assert sum("…" in line and "文件名" in line for line in lines) == 1


@pytest.mark.slow
def test_the_command(files, vocabularies, tmp_path):
    command = [sys.executable, "-m", "data_prep", "tokenizer-report", *vocabularies, "--input", str(files)]
    command += ["--json", str(tmp_path / "r.json"), "longest=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bytes per token" in done.stdout and "per language" in done.stdout
    written = orjson.loads((tmp_path / "r.json").read_bytes())
    assert written["documents"] == 4 and len(written["tokenizers"]) == 2
    assert written["tokenizers"][0]["groups"][0]["name"] == "all"
    assert len(written["tokenizers"][0]["longest_pieces"]) == 2
    failed = subprocess.run([*command, "longst=2"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and "longst" in failed.stderr and "longest" in failed.stderr
    none = subprocess.run([*command[:4], "--input", str(files)], capture_output=True, text=True, check=False)
    assert none.returncode == 2 and "tokenizers" in none.stderr
