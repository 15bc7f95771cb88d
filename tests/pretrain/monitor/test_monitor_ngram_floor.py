from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from monitor_runs import monitor, run_config
from test_monitor_summary import outcome

from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.ngram.ngram import NGRAM_FILE, ngram_floor, report_path, write_report
from pretrain.config import DataConfig
from pretrain.monitor.ngram_floor import ngram_rows
from pretrain.monitor.records import EvalRecord
from pretrain.monitor.summary import write_summary

SPLIT = (0.8, 0.1, 0.1)


def write_prefix(path: Path, seed: int = 0) -> Path:
    generator = np.random.default_rng(seed)
    with ShardWriter(path, np.dtype("<u2")) as writer:
        # A bare prefix is known by its index: other corpora need other lengths.
        for _ in range(200):
            writer.add_document(np.append(generator.integers(3, 20, 12 + seed), 2).astype("<u2"))
    return path


def count(path: Path, validation: Path | None = None, max_tokens: int = 10**9) -> float:
    corpus = Corpus.open(path)
    other = None if validation is None else Corpus.open(validation)
    limits = {"max_tokens": max_tokens, "max_held_out_tokens": 10**9}
    report = ngram_floor(corpus, max_order=3, split=SPLIT, validation=other, **limits)
    write_report(report, report_path(corpus))
    assert report.best.order == 1  # the ids are random
    return report.best.loss_nats


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_prefix(tmp_path / "corpus")


def rows(tmp_path: Path, corpus: Path, *overrides: str) -> list[tuple[str, str]]:
    settings = (f"data.train={corpus}", f"data.split={list(SPLIT)}", *overrides)
    return list(ngram_rows(run_config(tmp_path / "run", *settings).data))


def test_the_figure_stands_below_the_validation(tmp_path: Path, corpus: Path) -> None:
    loss = count(corpus)
    config = run_config(tmp_path / "run", f"data.train={corpus}", f"data.split={list(SPLIT)}")
    watched = monitor(config, resumed_step=None)
    watched.log_eval(EvalRecord(40, "validation", 2.0, {"unigram_loss": 6.25}))
    watched.close()
    write_summary(config, outcome(), io.StringIO())
    lines = (tmp_path / "run" / "summary.txt").read_text().splitlines()
    at = lines.index("validation  loss 2.0000, unigram loss 6.2500, at step 40")
    assert lines[at + 1] == f"1-gram      loss {loss:.4f} (modified Kneser-Ney)"


@pytest.mark.parametrize(("own", "told"), [(9.0, True), (0.1, False), (None, False)])
def test_where_counting_does_better_the_summary_says_what_to_do(
    tmp_path: Path, corpus: Path, own: float | None, told: bool
) -> None:
    count(corpus)
    data = run_config(tmp_path / "run", f"data.train={corpus}", f"data.split={list(SPLIT)}").data
    found = list(ngram_rows(data, {"validation": {"loss": own}}))
    assert (len(found) == 2) == told
    if told:
        assert "better than this model's 9.0000: train longer (training.duration)" in found[1][1]


def test_a_sample_is_said(tmp_path: Path, corpus: Path) -> None:
    count(corpus, max_tokens=1000)
    ((_, text),) = rows(tmp_path, corpus)
    assert "% of the training tokens)" in text and "Kneser-Ney, from " in text


def test_a_figure_of_other_documents_is_not_shown_but_how_to_get_one(tmp_path: Path, corpus: Path) -> None:
    assert rows(tmp_path, corpus) == []
    count(corpus)
    assert [label for label, _ in rows(tmp_path, corpus)] == ["1-gram"]
    other = write_prefix(tmp_path / "other", seed=1)
    assert rows(tmp_path, corpus, f"data.train=[{corpus}, {other}]") == []
    command = f"python -m data_prep ngram {corpus} --split"
    for override, expected in (
        ("data.split=[0.9,0.05,0.05]", f"{command} 0.9 0.05 0.05 finds it out"),
        (f"data.validation={{v: {other}}}", f"{command} 0.8 0.1 0.1 --validation {other} finds it out"),
    ):
        ((label, text),) = rows(tmp_path, corpus, override)
        assert label == "n-gram" and text == f"not known for these documents; {expected}"
    report_path(Corpus.open(corpus)).rename(report_path(Corpus.open(other)))
    ((label, text),) = rows(tmp_path, other)
    assert label == "n-gram" and "not known for these documents" in text
    assert rows(tmp_path, tmp_path / "gone") == []


def test_a_validation_set_of_its_own_is_named(tmp_path: Path, corpus: Path) -> None:
    other = write_prefix(tmp_path / "other", seed=1)
    loss = count(corpus, validation=other)
    found = rows(tmp_path, corpus, f"data.validation={{held: {other}}}")
    assert found == [("1-gram", f"loss {loss:.4f} (modified Kneser-Ney, on held)")]
    assert rows(tmp_path, corpus)[0][0] == "n-gram"


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"orders": []}', b'{"orders": [], "best_order": 3}'])
def test_a_damaged_file_is_said_and_no_reason_to_fail(tmp_path: Path, corpus: Path, content: bytes) -> None:
    report_path(Corpus.open(corpus)).write_bytes(content)
    ((label, text),) = rows(tmp_path, corpus)
    assert label == "n-gram" and NGRAM_FILE in text and "cannot be read" in text


def test_the_split_is_pretrainings_own() -> None:
    from data_prep.corpus.split import DEFAULT_SPLIT

    assert DataConfig.model_fields["split"].default == DEFAULT_SPLIT


def test_the_report_of_a_directory_lies_in_it(tmp_path: Path) -> None:
    class Directory:
        path, manifest = tmp_path / "c", object()

    assert report_path(Directory()) == tmp_path / "c" / NGRAM_FILE  # type: ignore[arg-type]
