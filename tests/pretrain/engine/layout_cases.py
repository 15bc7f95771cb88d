"""The layouts that must train as one process does, and what a rank does to show it.

`python -m tests.pretrain.engine.equivalence_table` prints them all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from configs.durations import Duration
from pretrain.config import DataConfig, ParallelConfig, RunConfig, TrainingConfig
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.gpt.config import GPTConfig
from pretrain.optimizers.adamw_config import AdamWConfig
from pretrain.parallel.layout import resolve_layout

VOCAB, SEQ_LENGTH, STEPS = 256, 32, 4
ROLES = {"pad": 0, "classification": 1, "separator": 2, "mask": 3, "fim_prefix": 4, "fim_suffix": 5, "fim_middle": 6}
PRELOAD = ("deepspeed", "pretrain.engine.engine", "pretrain.models.gpt.network", "pretrain.models.encoder.network")
SESSION = (*PRELOAD, "pretrain.trainer")
"""What whole runs import."""
Trajectory = list[tuple[float, ...]]
"""Of each step the losses by name and then the gradient norm; at the end the validation loss and the parameter norm."""

LLAMA: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "ffn_hidden_size": 128,
    "seq_length": SEQ_LENGTH,
    "vocab_size": VOCAB,
}
GPT2: dict[str, Any] = LLAMA | {
    "num_query_groups": None,
    "position_embedding": "learned",
    "normalization": "LayerNorm",
    "activation": "gelu_tanh",
    "bias": True,
}


@dataclass(frozen=True)
class Case:
    """A layout and what is trained on it.

    Attributes:
        name: what it is called in the table.
        ranks: processes.
        parallel: fields of `ParallelConfig`.
        model: fields of the model's config beside the family's.
        family: sizes and choices of the model.
        micro_batch_size: samples per forward pass.
        global_batch_size: samples per step.
        precision: number format.
        resets_attention: whether samples hold several documents that do not see each other.
        pads_labels: whether some labels do not count, more on some ranks than on others.
        vocab_size: ids from which samples are drawn.
        norm_limit: what the norms' differences must stay under; None: what holds for all others of the precision.
    """

    name: str
    ranks: int
    parallel: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    family: str = "llama"
    micro_batch_size: int = 2
    global_batch_size: int = 16
    precision: str = "fp32"
    resets_attention: bool = False
    pads_labels: bool = False
    vocab_size: int = VOCAB
    norm_limit: float | None = None

    def config(self, parallel: dict[str, Any] | None = None) -> RunConfig:
        """The run; `parallel` replaces the case's own layout."""
        return RunConfig(
            output=Path("unused"),
            model=self.model_config(),
            **self.objective_config(),
            data=DataConfig(train=["unused"]),
            parallel=ParallelConfig(**(self.parallel if parallel is None else parallel)),
            training=TrainingConfig(
                duration=Duration(STEPS, "steps"),
                micro_batch_size=self.micro_batch_size,
                global_batch_size=self.global_batch_size,
                precision=self.precision,
            ),
            # The gradient norms are around 0.7, so every step is clipped.
            optimizer=AdamWConfig(lr=1e-2, clip_grad_norm=0.3),
        )

    @property
    def peak_lr(self) -> float:
        """Learning rate of the last step; at the fp32 rate bf16's rounding (8 bits) is amplified from step to step."""
        return 1e-2 if self.precision == "fp32" else 1e-3

    def model_config(self) -> ModelConfig:
        """The network."""
        return GPTConfig(**((GPT2 if self.family == "gpt2" else LLAMA) | self.model))

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """The key `objective` of the run; empty: the default."""
        return {}

    def reference(self) -> Case:
        """The same training in one process without sharding or recompute."""
        return replace(self, name="single process", ranks=1, parallel={"zero_stage": 0}, norm_limit=None)

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """This data rank's part of the global batch of `step`: the same samples in every layout."""
        return micro_batches(self, step, data_rank, data_size)


def _case(name: str, ranks: int, zero: int, tensor: int = 1, pipeline: int = 1, **options: Any) -> Case:
    keys = ("sequence_parallel", "recompute", "offload_optimizer", "zero3_persistent_elements")
    # Everything here is small; at stage 3 it is partitioned all the same.
    parallel = {"zero_stage": zero, "tensor_size": tensor, "pipeline_size": pipeline, "zero3_persistent_elements": 0}
    parallel |= {key: options.pop(key) for key in keys if key in options}
    return Case(name, ranks, parallel, **options)


_SP = {"sequence_parallel": True}
_UNTIED = {"model": {"tie_embeddings": False}}
_DROPOUT = {"model": {"hidden_dropout": 0.1, "attention_dropout": 0.1}}
_HIDDEN_DROPOUT = {"model": {"hidden_dropout": 0.1}}

CASES: tuple[Case, ...] = (
    _case("zero 1", 1, 1),
    _case("zero 2", 1, 2),
    _case("zero 3", 1, 3),
    _case("zero 0, data 2", 2, 0),
    _case("zero 1, data 2", 2, 1),
    _case("zero 2, data 2", 2, 2),
    _case("zero 3, data 2", 2, 3),
    _case("zero 3, data 4, untied", 4, 3, **_UNTIED),
    _case(
        "zero 3, tensor 2, pipeline 2, small weights whole", 4, 3, tensor=2, pipeline=2, zero3_persistent_elements=9000
    ),
    _case("zero 0, tensor 2", 2, 0, tensor=2),
    _case("zero 1, tensor 2, sequence", 2, 1, tensor=2, **_SP),
    _case("zero 2, tensor 2, sequence, data 2, gpt2", 4, 2, tensor=2, family="gpt2", **_SP),
    _case("zero 3, tensor 2, sequence, gpt2 untied", 2, 3, tensor=2, family="gpt2", **_SP, **_UNTIED),
    _case("zero 0, pipeline 2", 2, 0, pipeline=2),
    _case("zero 1, pipeline 2, data 2", 4, 1, pipeline=2),
    _case("zero 2, pipeline 2, untied", 2, 2, pipeline=2, **_UNTIED),
    _case("zero 3, pipeline 2, data 2", 4, 3, pipeline=2),
    _case("zero 2, pipeline 4", 4, 2, pipeline=4),
    _case("zero 3, pipeline 4, 2 micro-batches < stages", 4, 3, pipeline=4, micro_batch_size=8),
    _case("zero 3, pipeline 4, 4 micro-batches = stages", 4, 3, pipeline=4, micro_batch_size=4),
    _case("zero 1, pipeline 4, 16 micro-batches > stages", 4, 1, pipeline=4, micro_batch_size=1),
    _case("zero 0, tensor 2, pipeline 2, data 2", 8, 0, tensor=2, pipeline=2),
    _case("zero 1, tensor 2, sequence, pipeline 2, data 2", 8, 1, tensor=2, pipeline=2, **_SP),
    _case("zero 2, tensor 2, sequence, pipeline 2, data 2", 8, 2, tensor=2, pipeline=2, **_SP),
    _case("zero 3, tensor 2, sequence, pipeline 2, data 2", 8, 3, tensor=2, pipeline=2, **_SP),
    _case("zero 3, tensor 2, pipeline 4, gpt2", 8, 3, tensor=2, pipeline=4, family="gpt2"),
    _case("zero 3, data 2, recompute full", 2, 3, recompute="full"),
    _case("zero 3, pipeline 2, recompute selective", 2, 3, pipeline=2, recompute="selective"),
    _case("zero 2, tensor 2, sequence, recompute full", 2, 2, tensor=2, recompute="full", **_SP),
    _case("zero 1, data 2, dropout, recompute full", 2, 1, recompute="full", **_DROPOUT),
    _case("zero 3, pipeline 2, dropout, recompute selective", 2, 3, pipeline=2, recompute="selective", **_DROPOUT),
    _case("zero 2, tensor 2, pipeline 2, hidden dropout", 4, 2, tensor=2, pipeline=2, **_HIDDEN_DROPOUT),
    _case("zero 1, tensor 2, sequence, hidden dropout", 2, 1, tensor=2, **_SP, **_HIDDEN_DROPOUT),
    _case(
        "zero 3, tensor 2, sequence, pipeline 2, hidden dropout, recompute full, gpt2",
        4,
        3,
        tensor=2,
        pipeline=2,
        recompute="full",
        family="gpt2",
        **_SP,
        **_HIDDEN_DROPOUT,
    ),
    _case("zero 1, data 2, offload", 2, 1, offload_optimizer=True),
    _case("zero 2, tensor 2, sequence, pipeline 2, offload", 4, 2, tensor=2, pipeline=2, offload_optimizer=True, **_SP),
    _case("zero 3, tensor 2, sequence, data 2, offload", 4, 3, tensor=2, offload_optimizer=True, **_SP),
    _case("zero 3, data 2, tensor 2, documents apart", 4, 3, tensor=2, resets_attention=True),
    _case("zero 1, pipeline 2, documents apart, gpt2", 2, 1, pipeline=2, resets_attention=True, family="gpt2"),
    _case("zero 2, data 4, uneven label masks", 4, 2, pads_labels=True),
    _case("zero 1, data 2, bf16", 2, 1, precision="bf16"),
    _case("zero 3, tensor 2, sequence, pipeline 2, data 2, bf16", 8, 3, tensor=2, pipeline=2, precision="bf16", **_SP),
)


def micro_batches(case: Case, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
    """This data rank's part of the global batch of `step`: the same samples in every layout."""
    generator = torch.Generator().manual_seed(7000 + step)
    samples = torch.randint(0, case.vocab_size, (case.global_batch_size, SEQ_LENGTH + 1), generator=generator)
    ends = torch.randint(1, SEQ_LENGTH, (case.global_batch_size, 1), generator=generator)
    size = case.micro_batch_size
    batches = []
    for number in range(data_rank, case.global_batch_size // size, data_size):
        chosen = samples[number * size : (number + 1) * size]
        position_ids = torch.arange(SEQ_LENGTH).expand(size, -1)
        end = ends[number * size : (number + 1) * size]
        segments, mask = None, torch.ones(size, SEQ_LENGTH)
        if case.resets_attention:
            segments = (position_ids >= end).long()
            position_ids = position_ids - segments * end
        if case.pads_labels:
            mask = (position_ids < end).float()
        batches.append(
            MicroBatch(
                tokens_BS=chosen[:, :-1].contiguous(),
                labels_BS=chosen[:, 1:].contiguous(),
                loss_mask_BS=mask,
                position_ids_BS=position_ids.contiguous(),
                segment_ids_BS=segments,
                number=number,
            )
        )
    return batches


def objective_of(config: RunConfig) -> Any:
    """The training objective of a run whose corpora are made up."""
    from pretrain.data.token_facts import TokenFacts
    from pretrain.objectives.objective import ObjectiveContext

    facts = TokenFacts(VOCAB, ROLES)
    if config.model.is_encoder_decoder:
        facts = TokenFacts(VOCAB, ROLES | {"end_of_document": 7}, sentinels=range(VOCAB - 1, VOCAB - 17, -1))
    return config.objective.implement()(config.objective, ObjectiveContext(config.model, facts, config.seed))


def train(case: Case, steps: int = STEPS) -> Trajectory:
    """On each rank: train `steps` steps and evaluate."""
    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover

    torch.set_num_threads(1)
    config = case.config()
    launch = discover()
    layout = resolve_layout(config, launch.world_size)
    place = topology.start(launch, layout)
    engine = TrainEngine(config, place, objective_of(config))
    trajectory: Trajectory = []
    for step in range(steps):
        batches = case.micro_batches(step, place.data_rank, layout.data)
        result = engine.train_batch(batches, step=step, learning_rate=case.peak_lr * (step + 1) / steps)
        assert result.applied
        trajectory.append((*result.losses.values(), result.grad_norm))
    sums = engine.evaluate(case.micro_batches(99, place.data_rank, layout.data), engine.objective)
    validation_loss = engine.objective.figures(sums)["loss"]
    assert validation_loss is not None
    trajectory.append((validation_loss, engine.parameter_norm()))
    return trajectory


def largest_differences(found: Trajectory, reference: Trajectory) -> tuple[float, float]:
    """Largest relative differences of losses and of norms.

    Raises:
        AssertionError: a number is not finite; of it no difference says anything.
    """
    assert all(math.isfinite(number) for step in (*found, *reference) for number in step), "not finite"
    differences = [
        [abs(a - b) / abs(b) for a, b in zip(step, expected, strict=True)]
        for step, expected in zip(found, reference, strict=True)
    ]
    return max(max(step[:-1]) for step in differences), max(step[-1] for step in differences)
