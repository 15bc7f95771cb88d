"""What a user sees of long work: all of it, and each worker, in lines that a log can hold."""

from __future__ import annotations

import re
import time

import pytest

from data_prep.parallel import progress
from data_prep.parallel.progress import AtWork, Done, WorkProgress, worker_lines
from data_prep.sharding import shard_record
from data_prep.sharding.shard_record import RECORDS, Beat, Pulse, read_pulse


def test_a_pulse_tells_who_is_how_far_and_how_fast(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_record, "PULSE_INTERVAL_S", 0.05)
    (tmp_path / RECORDS).mkdir()
    pulse = Pulse(tmp_path, "shard", "node7:123")
    pulse.beat(1, 1, 0)
    assert read_pulse(tmp_path, "shard") is None
    time.sleep(0.1)
    pulse.beat(5000, 1200, 3)
    beat = read_pulse(tmp_path, "shard")
    assert (beat.text_bytes, beat.tokens, beat.left_out, beat.worker) == (5000, 1200, 3, "node7:123")
    assert 0 < beat.bytes_per_s <= 5000 / 0.1
    assert abs(beat.told_s - time.time()) < 5
    pulse.end()
    assert read_pulse(tmp_path, "shard") is None


def test_a_pulse_that_is_half_written_or_of_another_version_is_no_pulse(tmp_path):
    (tmp_path / RECORDS).mkdir()
    for content in (b'{"text_by', b"[1, 2, 3]", b'{"text_bytes": 1}'):
        (tmp_path / RECORDS / "shard.pulse").write_bytes(content)
        assert read_pulse(tmp_path, "shard") is None


def test_the_slowest_workers_come_first_and_the_rest_is_summed_up():
    workers = tuple(AtWork(f"node{n}:1", f"shard-{n}", 1e6 * n, n % 2) for n in range(1, 11))
    lines = worker_lines(Done(workers=workers))
    assert lines[0] == "node1:1: shard-1, 1.0 MB/s, 1 left out"
    assert lines[1] == "node2:1: shard-2, 2.0 MB/s"
    assert lines[8:] == ["and 2 faster ones, up to 10.0 MB/s"]
    assert worker_lines(Done(workers=workers[:1])) == []


def test_a_worker_that_is_not_heard_of_is_told():
    assert str(AtWork("node1:1", "shard", 2e6, 0, silent_s=14.0)) == "node1:1: shard, 2.0 MB/s"
    assert str(AtWork("node1:1", "shard", 2e6, 0, silent_s=130.0)) == "node1:1: shard, 2.0 MB/s, silent for 2 min"


def test_a_log_gets_a_line_for_all_and_one_for_each_worker(monkeypatch, capsys):
    monkeypatch.setattr(progress, "LINE_INTERVAL_S", 0.05)
    monkeypatch.setattr(progress, "LOOK_INTERVAL_S", 0.05)
    workers = (AtWork("a:1", "one", 3e6, 0), AtWork("a:2", "two", 2e6, 5))
    printed = ""
    with WorkProgress("tokenize", 10_000_000, lambda: Done(5_000_000, 1_250_000, 5, workers)):
        while "a:1: one, 3.0 MB/s\n" not in printed:
            time.sleep(0.05)
            printed += capsys.readouterr().err
    assert re.search(r"^tokenize: 50% of 10\.0 MB, 1\.2M tokens, .* MB/s, 5 left out", printed, re.MULTILINE)
    assert "\n  a:2: two, 2.0 MB/s, 5 left out\n  a:1: one, 3.0 MB/s\n" in printed


@pytest.mark.parametrize("age_s, shown", [(0.0, ["me:1"]), (-60.0, [])])
def test_beats_of_an_earlier_start_are_no_workers(tmp_path, age_s, shown):
    from types import SimpleNamespace

    from data_prep.sharding.tokenization import _Watch

    (tmp_path / RECORDS).mkdir()
    work = SimpleNamespace(partial=tmp_path, tasks=[SimpleNamespace(name="shard")], sizes_bytes=[100])
    watch = _Watch(work)
    beat = Beat(40, 10, 1, "me:1", 8.0, time.time() + age_s)
    import orjson

    (tmp_path / RECORDS / "shard.pulse").write_bytes(orjson.dumps(vars(beat)))
    done = watch()
    assert (done.input_bytes, done.tokens, done.left_out) == (40, 10, 1)
    assert [at_work.worker for at_work in done.workers] == shown
