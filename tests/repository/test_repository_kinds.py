"""Somebody else's kinds, all five from one module in a temporary folder, with no file edited.

They train with ZeRO-3 on two ranks, save, resume in another layout, are exported and fine-tuned.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from toy_module import TOY_KINDS

from configs.errors import DataError
from configs.load import load_config
from pretrain.config import RunConfig
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD
from tests.pretrain.tiny_run import make_corpus, train_records


def run_toys(folder: str, settings: list[str]) -> int:
    """On each rank: a run whose kinds stand in `folder`."""
    sys.path.insert(0, folder)
    from pretrain.main import run

    return int(run(load_config(RunConfig, None, settings)))


def toy_settings(output: Path, corpus: Path, **changes: Any) -> list[str]:
    settings: dict[str, Any] = {
        "output": output,
        "model.name": "toy_kinds:ToyModelConfig",
        "model.num_layers": 1,
        "model.hidden_size": 16,
        "model.seq_length": 16,
        "objective.name": "toy_kinds:ToyObjectiveConfig",
        "optimizer.name": "toy_kinds:ToyOptimizerConfig",
        "optimizer.lr": 0.01,
        "optimizer.decay_of_average": 0.8,
        "data.train": corpus,
        "data.split": "[0.9,0.05,0.05]",
        "parallel.zero_stage": 3,
        "parallel.zero3_persistent_elements": 0,
        "training.duration": "4 steps",
        "training.micro_batch_size": 2,
        "training.global_batch_size": 8,
        "training.precision": "fp32",
        "evaluation.batches": 2,
        "monitor.log_interval": 1,
        "monitor.tensorboard": "false",
        "monitor.peak_tflops": 1.0,
    }
    return [f"{key}={value}" for key, value in (settings | changes).items()]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toys")
    (folder / "toy_kinds.py").write_text(TOY_KINDS)
    return folder


@pytest.mark.slow
def test_toy_kinds_train_resume_export_and_are_fine_tuned(
    toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = make_corpus(tmp_path / "corpus", documents=120)
    straight, parted = (toy_settings(tmp_path / name, corpus) for name in ("straight", "parted"))
    assert run_ranks(run_toys, 1, str(toys), straight, process_group=False, preload=PRELOAD) == [0]
    two_steps = [*parted, "training.session_limit=2 steps"]
    assert run_ranks(run_toys, 2, str(toys), two_steps, process_group=False, preload=PRELOAD) == [75, 75]
    from pretrain.checkpoint.reader import CheckpointReader

    reader = CheckpointReader(tmp_path / "parted")
    assert reader.states("embedding.weight") == ("master", "average")
    assert reader.metadata["config"]["model"]["name"] == "toy_kinds:ToyModelConfig"
    resumed = [*parted, "parallel.zero_stage=1"]
    assert run_ranks(run_toys, 1, str(toys), resumed, process_group=False, preload=PRELOAD) == [0]
    found, expected = train_records(tmp_path / "parted"), train_records(tmp_path / "straight")
    assert [r["step"] for r in found] == [1, 2, 3, 4]
    for one, other in zip(found, expected, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
    assert found[-1]["loss"] < found[0]["loss"]

    monkeypatch.syspath_prepend(toys)
    from finetune.cli import run_command
    from finetune.config import ExportConfig
    from finetune.huggingface.export import export

    config = load_config(ExportConfig, None, [f"model={tmp_path / 'parted'}", f"output={tmp_path / 'export'}"])
    record = export(config)
    assert record["architecture"] == "LlamaForCausalLM" and record["logits"]["largest_difference"] < 1e-5
    assert record["family"] == "toy_kinds:ToyHuggingFace"
    check_read_back(tmp_path / "export", tmp_path / "parted")
    assert record["document_start"]["token"] == "</s>" and record["document_start"]["recorded_by_pretraining"]
    assert record["token_rows_equal_to_source"] == record["model"]["vocab_size"]
    task = ["task=toy_kinds:ToyTaskConfig", f"model={tmp_path / 'parted'}", f"output={tmp_path / 'task'}"]
    run_command([*task, f"texts={tmp_path / 'corpus' / 'text.jsonl'}", "training.duration=3 steps"])
    assert 0 < json.loads((tmp_path / "task" / "task.json").read_text())["test"]["fine-tuned"]["loss"] < 10


def check_read_back(export: Path, checkpoint: Path) -> None:
    """An export of a family of one's own is read as its checkpoint is, by what its record says, or not at all."""
    from transformers import AutoConfig

    from finetune.pretrained import read_pretrained
    from pretrain.models.huggingface.family import from_config

    exported, own = read_pretrained(export), read_pretrained(checkpoint)
    for pretrained in (exported, own):
        assert type(pretrained.family).__name__ == "ToyHuggingFace"
        assert pretrained.poolings == {"first": {}} and pretrained.is_encoder is False
    assert exported.tensors.keys() >= own.tensors.keys()
    complete = AutoConfig.from_pretrained(export).to_dict()
    assert type(from_config(complete, export, family="toy_kinds:ToyHuggingFace")).__name__ == "ToyModelConfig"
    record = json.loads((export / "export.json").read_text())
    for family, says in (
        ("toys_elsewhere:ToyHuggingFace", "cannot be imported (ModuleNotFoundError"),
        ("os:abort", "is no class"),
        ("builtins:dict", "does not say its model_type, classes, sees_both_sides, poolings"),
        ("toy", "is not known"),
    ):
        (export / "export.json").write_text(json.dumps(record | {"family": family}))
        with pytest.raises(DataError) as refused:
            read_pretrained(export)
        said = refused.value.render()
        assert "export.json" in said and repr(family) in said and says in said and "PYTHONPATH" in said
    came_along = export / "came_along.py"
    came_along.write_text("raise SystemExit('it was run')")
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.syspath_prepend(export)
    (export / "export.json").write_text(json.dumps(record | {"family": "came_along:Family"}))
    with pytest.raises(DataError, match="whose module lies in the same directory and is not run"):
        read_pretrained(export)
    monkeypatch.undo()
    (export / "export.json").write_text("[]")
    with pytest.raises(DataError, match=r"export\.json: is damaged"):
        read_pretrained(export)
