"""Whole trainings of adapters: on several ranks, stopped, with several seeds, of questions and preferences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from configs.errors import DataError
from finetune.run_task import run_task
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.prefer_config import PreferConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_questions import qa_config, write_squad
from tests.finetune.finetune_texts import train_on_rank
from tests.finetune.methods.adapted_runs import METHODS, OPTIMIZER, SHORT, changed, settings, train

RANKS: dict[str, Any] = {
    "baselines": [],
    "training": SHORT | {"micro_batch_size": 4, "adversarial": "fgm"},
    "optimizer": OPTIMIZER,
    "method": METHODS["lora"],
}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "houlsby"])
def test_two_ranks_at_stage_3_equal_one_process(root: Path, method: str) -> None:
    """With dropout in the adapter, and the input embeddings moved, which are frozen."""
    records = []
    for world_size, stage in ((1, 0), (2, 3)):
        fields = RANKS | {"training": RANKS["training"] | {"zero_stage": stage}, "method": METHODS[method]}
        found = run_ranks(
            train_on_rank, world_size, str(root), f"{method}-{stage}", fields, process_group=False,
            preload=("deepspeed", "transformers", "peft"), timeout_s=300,
        )  # fmt: skip
        records.append(found[0])
    one, other = records
    assert [record["ran"]["zero_stage"] for record in records] == [0, 3]
    assert len(one["history"]) == 8 and one["history"][0]["loss"] != one["history"][-1].get("loss")
    for mine, theirs in zip(other["history"], one["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for key in ("trained_parameters", "total_parameters"):
        assert one["method"][key] == other["method"][key]
    assert other["method"].get("merged_difference", 0.0) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pissa", "prefix"])
def test_a_stopped_training_goes_on_bitwise(root: Path, method: str) -> None:
    import os
    import signal

    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if line.startswith("step     2/6"):
            os.kill(os.getpid(), signal.SIGUSR2)

    straight = train(settings(root, "gpt", f"straight-{method}", METHODS[method]))
    with pytest.raises(SystemExit):
        run_task(settings(root, "gpt", f"stopped-{method}", METHODS[method]), log)
    checkpoint = next((root / f"stopped-{method}.training" / "fine-tuned").glob("step_*"))
    held = sum(path.stat().st_size for path in checkpoint.rglob("*.safetensors"))
    # Of each trained weight itself, two moments and the best one; the frozen ones are not in it.
    assert held < 4 * 4 * straight.record["method"]["trained_parameters"] + 20_000
    assert held < 4 * straight.record["method"]["total_parameters"]
    result = run_task(settings(root, "gpt", f"stopped-{method}", METHODS[method]), said.append)
    assert result is not None and any(line.startswith("resumed at step") for line in said)
    file = Path("adapter") / "adapter_model.safetensors"
    assert (root / f"straight-{method}" / file).read_bytes() == (root / f"stopped-{method}" / file).read_bytes()
    assert result.record["history"] == straight.record["history"]


@pytest.mark.slow
def test_questions_and_preferences_take_adapters(root: Path) -> None:
    write_squad(root / "squad.json")
    with (root / "preferences.jsonl").open("w") as file:
        for number in range(60):
            record = {"id": f"n{number}", "prompt": f"the {number} ", "chosen": "returns value", "rejected": "of file"}
            file.write(json.dumps(record) + "\n")
    fields = {"training": SHORT | {"precision": "bf16", "zero_stage": 2}, "optimizer": OPTIMIZER}
    questions = qa_config(root, "qa", model=root / "bert", method=METHODS["lora"], **fields)
    preferred = PreferConfig.model_validate(
        {
            "output": root / "prefer",
            "model": root / "run",
            "data": {"train_texts": str(root / "preferences.jsonl"), "max_completion_tokens": 16},
            "method": METHODS["lora"],
            **fields,
        }
    )
    expected: list[tuple[str, TaskConfig, set[str]]] = [
        ("run", preferred, {"q_proj", "v_proj"}),
        ("bert", questions, {"query", "value", "qa_outputs"}),
    ]
    for kind, config, ends in expected:
        said = train(config).record["method"]
        assert said["merged_difference"] < 1e-4 and said["base_difference"] > 1e-2
        names = changed(root, kind, config.output)
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == ends


@pytest.mark.slow
def test_several_seeds_of_an_adapter_alone(root: Path) -> None:
    """Their ensemble reads the adapters back."""
    from finetune.predictors import load_predictor
    from finetune.seeds import run_seeds

    config = settings(root, "classify", "seeds", METHODS["prefix"], seeds=[1, 2])
    result = run_seeds(config, lambda line: None)
    assert result is not None and "ensemble" in result.parts["test"]
    files = [root / "seeds" / f"seed-{seed}" / "adapter" / "adapter_model.safetensors" for seed in (1, 2)]
    assert files[0].read_bytes() != files[1].read_bytes()
    with pytest.raises(DataError, match="holds no whole model"):
        load_predictor(root / "seeds" / "seed-1")
    full = json.loads((root / "seeds" / "seed-1" / "adapter" / "adapter_config.json").read_text())
    assert full["peft_type"] == "PREFIX_TUNING" and full["base_model_name_or_path"] == str(root / "run")
