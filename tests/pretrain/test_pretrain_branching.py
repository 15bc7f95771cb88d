"""Runs that branch from another's checkpoint, and finished runs that are extended with a schedule begun anew."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import CheckpointError
from pretrain.branching import branch_record, branch_root, find_branch, unread_notes
from pretrain.checkpoint.reader import find_checkpoints, read_metadata
from pretrain.checkpoint.weights_only import write_weights_only
from pretrain.config import RunConfig
from pretrain.lineage import Lineage
from pretrain.main import main
from pretrain.starting.architecture import complete_model
from tests.distributed import run_ranks
from tests.pretrain.checkpoint.test_checkpoint_kept import KEPT
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, states_differ, tiny_config, train_records

WSD: dict[str, Any] = {"optimizer__schedule": "wsd", "optimizer__decay": "3 steps", "checkpoint__keep_last": 9}
LAST = "checkpoints/step_00000012"


def run_sessions(
    corpus: Path, sessions: Sequence[tuple[Path, dict[str, Any]]], dies_at: int | None = None
) -> list[int]:
    """On each rank: runs one after the other; the last one dies in its step `dies_at`, if that is given."""
    import torch

    from pretrain import loop, main

    torch.set_num_threads(1)
    original, statuses = loop.step_record, []

    def step_record(run: Any, progress: Any, *rest: Any) -> Any:
        if progress.step == dies_at:
            raise RuntimeError("killed")
        return original(run, progress, *rest)

    loop.step_record = step_record  # type: ignore[assignment]
    for output, changes in sessions:
        try:
            statuses.append(int(main.run(tiny_config(output, corpus, **WSD | changes))))
        except RuntimeError as error:
            assert str(error) == "killed"
            statuses.append(-1)
    return statuses


def sessions_of(
    ranks: int, corpus: Path, *sessions: tuple[Path, dict[str, Any]], dies_at: int | None = None
) -> list[int]:
    arguments = (corpus, sessions, dies_at)
    return run_ranks(run_sessions, ranks, *arguments, process_group=False, preload=SESSION, timeout_s=300)[0]


def files_of(directory: Path) -> dict[str, tuple[int, int]]:
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


def told_in(run: Path) -> str:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return "\n".join(record["text"] for record in records if record["kind"] == "event")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A finished run of 12 steps, stable to step 9, with all its checkpoints."""
    run = tmp_path_factory.mktemp("source") / "run"
    assert sessions_of(1, corpus, (run, {})) == [0]
    return run


@pytest.mark.slow
def test_a_branch_takes_the_course_of_its_run_to_the_last_bit_and_leaves_it_alone(
    tmp_path: Path, source: Path, corpus: Path
) -> None:
    branch, copy = tmp_path / "branch", tmp_path / "source"
    shutil.copytree(source, copy)
    before, step = files_of(copy), copy / "checkpoints" / "step_00000006"
    changes: dict[str, Any] = {"checkpoint__branch_from": step}
    # Killed before it has a checkpoint of its own, it branches again.
    assert sessions_of(1, corpus, (branch, changes), dies_at=8) == [-1]
    assert not list((branch / "checkpoints").glob("step_*"))
    stopped = changes | {"training__session_limit": "2 steps"}
    assert sessions_of(1, corpus, (branch, stopped)) == [75]
    assert files_of(copy) == before
    # With one of its own it does not look there again.
    shutil.rmtree(copy)
    assert sessions_of(1, corpus, (branch, changes)) == [0]
    assert states_differ(source / LAST, branch / LAST) == []
    assert train_records(branch) == train_records(source)[6:]
    record = {"path": str(step), "step": 6, "consumed_samples": 48}
    metadata = read_metadata(branch)
    assert metadata["branch_from"] == record
    assert metadata["stretches"] == [{"from_step": 6, "changes": [], "branched_from": str(step)}]
    assert "branch_from" not in read_metadata(source) and "stretches" not in read_metadata(source)
    summary = (branch / "summary.txt").read_text()
    assert f"branched from  {step}\n" in summary and f"steps 7 to 12: branched from {step}\n" in summary
    assert json.loads((branch / "summary.json").read_text())["branched_from"] == record
    told = told_in(branch)
    assert f"branched from {step} at step 6: " in told
    assert "goes on from its checkpoint of step 8, and checkpoint.branch_from is not read again" in told


@pytest.mark.slow
def test_a_stable_phase_decays_in_branches_of_other_lengths_and_layouts(
    tmp_path: Path, source: Path, corpus: Path
) -> None:
    short = {"checkpoint__branch_from": source / "checkpoints" / "step_00000006", "training__duration": "9 steps"}
    alone, sharded = tmp_path / "alone", tmp_path / "sharded"
    assert sessions_of(1, corpus, (alone, short)) == [0]
    layout = {"parallel__zero_stage": 3, "parallel__zero3_persistent_elements": 0}
    assert sessions_of(2, corpus, (sharded, short | layout)) == [0]
    # Linear from the peak at step 6 to nothing at step 9, where the run itself was still at its peak.
    rates = [record["learning_rate"] for record in train_records(alone)]
    assert rates == pytest.approx([0.01, 0.01 * 2 / 3, 0.01 / 3])
    assert {record["learning_rate"] for record in train_records(source)[6:9]} == {0.01}
    losses = [[record["loss"] for record in train_records(run)] for run in (alone, sharded)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4) and len(losses[0]) == 3
    assert losses[0][0] == train_records(source)[6]["loss"] and losses[0][2] != train_records(source)[8]["loss"]
    assert read_metadata(alone)["stretches"][0]["changes"] == ["training.duration: 12 steps -> 9 steps"]


@pytest.mark.slow
def test_a_finished_run_is_extended_with_a_second_warm_up_and_resumes_within_it(
    tmp_path: Path, source: Path, corpus: Path
) -> None:
    longer: dict[str, Any] = {
        "checkpoint__branch_from": source,
        "training__duration": "20 steps",
        "optimizer__restart_at": "12 steps",
        "checkpoint__allow_changes": "[optimizer.restart_at]",
    }
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    stop = longer | {"training__session_limit": "2 steps"}
    assert sessions_of(1, corpus, (straight, longer), (stopped, stop), (stopped, longer)) == [0, 75, 0]
    last = "checkpoints/step_00000020"
    assert states_differ(straight / last, stopped / last) == []
    assert train_records(straight) == train_records(stopped)
    # Four steps of warm-up, one at the peak, three of decay.
    rates = [record["learning_rate"] for record in train_records(straight)]
    rising, falling = [0.0025, 0.005, 0.0075, 0.01, 0.01], [0.01, 0.01 * 2 / 3, 0.01 / 3]
    assert rates == pytest.approx(rising + falling)
    told = told_in(stopped)
    assert "accepted change: optimizer.restart_at: null -> 12 steps" in told
    assert "the learning rate jumps: it goes on at 0.0025, and 0 was planned for this step" in told
    assert "training.duration was 12 steps and is 20 steps; optimizer.restart_at is 12 steps\n" in told
    assert "optimizer.restart_at (12 steps): warm-up and decay are counted from there, over the last 8 steps" in told
    changes = "optimizer.restart_at: null -> 12 steps; training.duration: 12 steps -> 20 steps"
    where = source / "checkpoints" / "step_00000012"
    assert f"steps 13 to 20: branched from {where}; {changes}\n" in (stopped / "summary.txt").read_text()
    assert "steps 1 to 12: as the run began\n" in (stopped / "summary.txt").read_text()
    assert len(json.loads((stopped / "summary.json").read_text())["stretches"]) == 1


def branching(tmp_path: Path, path: Path, **changes: Any) -> RunConfig:
    return tiny_config(tmp_path / "branch", Path("corpus"), checkpoint__branch_from=path, **changes)


def test_what_there_is_to_branch_from_is_known_before_there_are_ranks(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(KEPT, run / "checkpoints", ignore=shutil.ignore_patterns("*trajectory*"))
    step = run / "checkpoints" / "step_00000002"
    for path in (run, run / "checkpoints", step):
        assert find_branch(branching(tmp_path, path)) == 2
        record = branch_record(branch_root(path), read_metadata(path))
        assert record["path"] == str(step) and record["step"] == 2
    assert find_branch(tiny_config(tmp_path / "branch", Path("corpus"))) is None
    with pytest.raises(CheckpointError, match=r"(?s)branch_from = .*/rum: does not exist.*did you mean: .*/run"):
        find_branch(branching(tmp_path, tmp_path / "rum"))
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        find_branch(branching(tmp_path, tmp_path))
    # A checkpoint of its own is gone on from: the source is not looked at, unless the run begins anew.
    shutil.copytree(step, tmp_path / "branch" / "checkpoints" / "step_00000005")
    gone = tmp_path / "gone"
    assert find_branch(branching(tmp_path, gone)) is find_branch(
        branching(tmp_path, gone, checkpoint__resume="required")
    )
    with pytest.raises(CheckpointError, match="does not exist"):
        find_branch(branching(tmp_path, gone, checkpoint__resume="never"))


@pytest.mark.parametrize("unit", ["steps", "samples", "tokens"])
def test_a_branch_with_nothing_left_to_train_is_refused(tmp_path: Path, unit: str) -> None:
    saved = read_metadata(KEPT)
    sizes = {"steps": saved["step"], "samples": saved["consumed_samples"]}
    sizes["tokens"] = sizes["samples"] * saved["model"]["seq_length"]
    same = {"model__seq_length": saved["model"]["seq_length"]}
    for length in (sizes[unit] // 2, sizes[unit]):
        short = branching(tmp_path, KEPT, training__duration=f"{length} {unit}", **same)
        with pytest.raises(CheckpointError, match=r"step 2, and training\.duration is .*nothing is left to train"):
            find_branch(short)
    assert find_branch(branching(tmp_path, KEPT, training__duration=f"{2 * sizes[unit]} {unit}", **same)) == 2


def test_a_damaged_source_is_refused_or_the_checkpoint_before_it_taken(tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(KEPT / "step_00000002", run / "checkpoints" / "step_00000002")
    newest = run / "checkpoints" / "step_00000004"
    shutil.copytree(KEPT / "step_00000002", newest)
    (newest / "rank00000.safetensors").write_bytes(b"short")
    assert find_branch(branching(tmp_path, run)) == 2
    with pytest.raises(CheckpointError, match=r"step_00000004: rank00000.safetensors: holds 5 bytes"):
        find_branch(branching(tmp_path, newest))
    (newest / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        find_branch(branching(tmp_path, newest))
    import torch

    (tmp_path / "mean").mkdir()
    write_weights_only(tmp_path / "mean", 3, {"w": (2, 2)}, lambda name: torch.zeros(2, 2), {}, [])
    with pytest.raises(CheckpointError, match="holds weights and no states of an optimizer") as refused:
        find_branch(branching(tmp_path, tmp_path / "mean"))
    assert f"start_from={tmp_path / 'mean'}" in refused.value.render()


@pytest.mark.parametrize(
    ("known", "given", "says"),
    [
        (None, "runs/a", "runs/a is ignored, the run did not begin as a branch"),
        ("runs/b/checkpoints/step_00000004", "runs/a", "the run branched from {known}, and runs/a is ignored"),
        ("runs/a/checkpoints/step_00000004", "runs/a", "step 7, and checkpoint.branch_from is not read again"),
    ],
)
def test_a_source_that_is_not_read_any_more_is_told(tmp_path: Path, known: str | None, given: str, says: str) -> None:
    path = None if known is None else str(Path(known).absolute())
    lineage = Lineage(branched_from=None if path is None else {"path": path, "step": 4})
    (note,) = unread_notes(branching(tmp_path, Path(given)), lineage, 7)
    assert note.endswith(says.format(known=path))


def test_a_lineage_goes_through_the_metadata_and_grows_by_what_changed() -> None:
    first = Lineage().continued(12, ["optimizer.lr: 0.1 -> 0.2"], None)
    assert Lineage().metadata() == {} and first.continued(14, [], None) is first
    branch = {"path": "/runs/a/checkpoints/step_00000020", "step": 20, "consumed_samples": 160}
    second = Lineage({"path": "/runs/w", "step": 3}).continued(20, [], branch)
    assert Lineage.of(json.loads(json.dumps(second.metadata()))) == second
    assert second.opening(20) == "branched from /runs/a/checkpoints/step_00000020 at step 20"
    assert second.opening(21) == "resumed at step 21" and first.opening(0) == "started"
    assert second.started_from and [part["from_step"] for part in first.continued(20, [], branch).stretches] == [12, 20]


def test_the_model_of_a_branch_may_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(KEPT, tmp_path / "run")
    raw: dict[str, Any] = {"output": str(tmp_path / "branch"), "checkpoint": {"branch_from": str(tmp_path / "run")}}
    whole = complete_model(raw)["model"]
    saved = read_metadata(find_checkpoints(tmp_path / "run")[-1])["config"]["model"]
    assert whole["vocab_size"] == saved["vocab_size"] and whole["hidden_size"] == saved["hidden_size"]
    assert complete_model(raw | {"model": {"hidden_size": 8}})["model"]["hidden_size"] == 8
    nowhere = raw | {"checkpoint": {"branch_from": str(tmp_path / "nowhere")}}
    assert complete_model(nowhere) is nowhere
    # So does the command, with a file that says nothing of a model.
    file = tmp_path / "branch.yaml"
    given = {"data": {"train": "corpus"}, "optimizer": {"lr": 0.1}}
    given |= {"training": {"duration": "9 steps", "micro_batch_size": 1, "global_batch_size": 1, "device": "cpu"}}
    file.write_text(json.dumps(raw | given))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pretrain.main.prepare_environment", lambda *unused: None)
        main(config=[str(file)], print_config=True)
    assert yaml.safe_load(capsys.readouterr().out)["model"]["hidden_size"] == saved["hidden_size"]
