"""Evaluates a checkpoint on validation and test sets, in any layout, without training."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, ConfigError
from configs.load import build_config
from data_prep.storage.publishing import staged_file
from pretrain import preflight
from pretrain.checkpoint.compatibility import check_compatible
from pretrain.checkpoint.manifest import MASTER
from pretrain.checkpoint.reader import read_metadata
from pretrain.config import RunConfig
from pretrain.data.saved_history import saved_history
from pretrain.monitor.console import ConsoleLog
from pretrain.monitor.records import EvalRecord
from pretrain.parallel.launch import discover

if TYPE_CHECKING:
    from pretrain.data.run_data import RunData
    from pretrain.engine.engine import TrainEngine
    from pretrain.starting.start import Start

FREE_SECTIONS = ("optimizer", "training")
"""What decides the course of a training, and nothing of an evaluation but its precision and batch size."""
UNKNOWN_OF_IMPORTS = ("seed", "data", "objective")
"""What an imported model's checkpoint does not say: no run of ours trained it."""


def evaluation_config(checkpoint: Path, overrides: Sequence[str]) -> RunConfig:
    """The config that a checkpoint was trained with, and `key=value` overrides; `output` is where it lies now.

    On ranks that its tensor and pipeline sizes do not divide, both are 1, unless overrides say how the model is cut.

    Raises:
        CheckpointError: `checkpoint` is none, or is damaged.
        ConfigError: an override that does not fit.
    """
    saved = dict(read_metadata(checkpoint).get("config") or {})
    if checkpoint.parent.name == "checkpoints":
        saved.pop("output_dir", None)  # its name in older checkpoints
        saved["output"] = str(checkpoint.parent.parent)
    launch, parallel = discover(), dict(saved.get("parallel") or {})
    plane = parallel.get("tensor_size", 1) * parallel.get("pipeline_size", 1)
    if launch.world_size % plane and not any(text.startswith("parallel.") for text in overrides):
        saved["parallel"] = parallel | {"tensor_size": 1, "pipeline_size": 1, "sequence_parallel": False}
        if launch.rank == 0:
            print(
                f"note: trained with {plane} ranks for each copy of the model, evaluated with one;"
                " parallel.tensor_size and parallel.pipeline_size choose others",
                file=sys.stderr,
                flush=True,
            )
    return build_config(RunConfig, saved, checkpoint, overrides)


def evaluate_checkpoint(
    checkpoint: Path, config: RunConfig, *, with_test: bool = False, output: Path | None = None
) -> dict[str, Any]:
    """Evaluate one checkpoint and print a line for each set. Collective over the ranks that were started.

    Args:
        checkpoint: its directory.
        config: the run that it is of, with what is evaluated and how, see `evaluation_config`.
        with_test: whether the test sets are evaluated, too.
        output: a JSON file for the figures; None: they are printed only.

    Returns:
        what is written to `output`.

    Raises:
        UserError: whatever does not fit: the checkpoint, the settings, the corpora, the ranks.
    """
    plan = preflight.check_model_and_data(config)
    start = _base_of(checkpoint, plan.config)
    if not plan.data.validation and not (with_test and plan.data.test):
        raise ConfigError(
            "there is no set to evaluate", where="data.validation", expected="such as data.validation={wiki: runs/wiki}"
        )
    if output is not None and plan.launch.rank == 0 and not output.parent.is_dir():
        raise ConfigError("there is no such directory", where=output.parent, expected="a directory for --output")

    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.evaluation import Evaluator
    from pretrain.objectives.objective import make_objective
    from pretrain.starting.frozen_weights import frozen_weights

    config, tokens = plan.config, plan.data.tokens
    place = topology.start(plan.launch, plan.layout, config.monitor.report_waiting_after.value)
    frozen = None if start is None else frozen_weights(start, config)
    engine = TrainEngine(config, place, make_objective(config, tokens, is_evaluation=False), frozen)
    if frozen is not None:
        frozen.end()
    step, data, accepted = _load(checkpoint, config, plan.data, engine)
    objective = make_objective(config, tokens, is_evaluation=True)
    evaluator = Evaluator(config.evaluation, config.training, objective, data.unigram_nats(), engine, place)
    records = evaluator.evaluate({**data.validation, **(data.test if with_test else {})}, step)
    topology.stop()
    found = {
        "checkpoint": str(checkpoint),
        "step": step,
        "layout": str(plan.layout),
        "precision": config.training.precision,
        "sets": {
            record.name: {"loss": record.loss, **record.figures, "set": data.evaluation_sets[record.name]}
            for record in records
        },
    }
    if place.rank == 0:
        _tell(records, accepted)
        if output is not None:
            with staged_file(output) as temporary:
                temporary.write_text(
                    json.dumps(_finite(found), indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
                )
    return found


def _base_of(checkpoint: Path, config: RunConfig) -> Start | None:
    """The model that the checkpoint of an adapter stands beside; None: it holds a whole one."""
    if not config.method.freezes:
        return None
    from pretrain.starting.source import open_source
    from pretrain.starting.start import RECORD_KEY, Start, base_path, check_same_weights

    assert config.start_from is not None
    record = read_metadata(checkpoint).get(RECORD_KEY) or {}
    source = open_source(base_path(config.start_from, record))
    if discover().rank == 0:
        check_same_weights(source, record)
    return Start(source, config.model.vocab_size, saved=record)


def _load(checkpoint: Path, config: RunConfig, data: RunData, engine: TrainEngine) -> tuple[int, RunData, list[str]]:
    """Load the weights; returns the step, the data with what was held out of it, the changes that were accepted."""
    from pretrain.checkpoint.loader import load_checkpoint

    found: list[tuple[RunData, list[str]]] = []

    def check(metadata: dict[str, Any]) -> None:
        untrained = () if metadata.get("data_fingerprint") else UNKNOWN_OF_IMPORTS
        allowed = (*FREE_SECTIONS, *untrained, *config.checkpoint.allow_changes)
        fingerprints = data.fingerprint, data.tokenizer_fingerprint
        try:
            accepted = check_compatible(metadata, config, *fingerprints, allowed, where=checkpoint, reads_states=False)
        except CheckpointError as error:
            expected = "what it was trained with; changed data is accepted with checkpoint.allow_changes=[data]"
            raise CheckpointError(error.problem, where=error.where, expected=expected) from None
        before, read = saved_history(metadata), data
        if before is not None:
            # A set that names a corpus of the training reads what was held out of it.
            data.check_split(config, before)
            read = data.continuing(config, before, metadata["step"], metadata["consumed_samples"])
        found[:] = [(read, [line for line in accepted if not line.startswith(untrained)])]

    held = [shard for shard in engine.shards() if MASTER in shard.tensors]
    weights = [replace(shard, tensors={MASTER: shard.tensors[MASTER]}) for shard in held]
    metadata = load_checkpoint(checkpoint, weights, check=check)
    engine.restore(metadata["optimizer_step"], None)
    return metadata["step"], *found[0]


def _finite(value: Any) -> Any:
    """`value` with null for numbers that JSON has not."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _tell(records: Sequence[EvalRecord], accepted: Sequence[str]) -> None:
    for line in accepted:
        if not line.startswith(FREE_SECTIONS):
            print(f"accepted change: {line}", file=sys.stderr, flush=True)
    console = ConsoleLog(None)
    for record in records:
        console.write("validation", record.step, {"name": record.name, "loss": record.loss, **record.figures})
    console.close()
