"""One rank's engine: train on a global batch, evaluate, give and take state. The loop knows no more than this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from pretrain.checkpoint.pieces import Piece
from pretrain.config import OptimizerConfig, RunConfig
from pretrain.data.batch import MicroBatch
from pretrain.engine import upstream
from pretrain.engine.deepspeed_config import deepspeed_config
from pretrain.engine.gradients import GradientFinisher
from pretrain.engine.group_adapter import GroupAdapter
from pretrain.engine.pipeline import Pipeline
from pretrain.engine.topology import Topology
from pretrain.engine.zero_optimizer import FlatPartitions, ParameterPartitions, ZeroOptimizer
from pretrain.models.parameters import TIED_WEIGHT

Votes = Callable[[], Sequence[float]]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, over all ranks.

    Attributes:
        loss: mean over the global batch, nats per token.
        grad_norm: norm of the gradient before clipping.
        applied: False if loss or gradient were not finite and the step was skipped.
        loss_scale: fp16's scale during the step; None in other precisions.
        votes: each vote that was given, summed over the ranks.
    """

    loss: float
    grad_norm: float
    applied: bool
    loss_scale: float | None
    votes: tuple[float, ...] = ()


@dataclass(frozen=True)
class EvaluationSums:
    """Sums over an evaluation, over all ranks: nats, tokens, UTF-8 bytes of the tokens (0 where unknown)."""

    loss_nats: float
    tokens: float
    label_bytes: float


class TrainEngine:
    """The model, its optimizer and its schedule on this rank.

    Attributes:
        before_update: called in each step after the backward passes, before the optimizer changes what `pieces` shows.
    """

    before_update: Callable[[], None] | None = None

    def __init__(self, config: RunConfig, topology: Topology) -> None:
        deepspeed = upstream.import_deepspeed()
        from pretrain.models.gpt.network import build_gpt, transformer_config

        self.config = config
        self.topology = topology
        upstream.scope_trace_check_to(topology.data_group)
        megatron = transformer_config(config.model, config.parallel, _DTYPES[config.training.precision])
        model = build_gpt(
            config.model,
            megatron,
            first_stage=topology.is_first_stage,
            last_stage=topology.is_last_stage,
            seed=config.seed,
        )
        parameters = list(model.parameters())
        self._deepspeed, *_ = deepspeed.initialize(
            model=model,
            optimizer=_adamw(parameters, config.optimizer),
            config=deepspeed_config(config),
            mpu=GroupAdapter(partitions=config.parallel.zero_stage > 0),
            dist_init_required=False,
        )
        face = ParameterPartitions if config.parallel.zero_stage == 3 else FlatPartitions
        self.zero: ZeroOptimizer = face(self._deepspeed.optimizer, parameters)
        if config.training.precision == "fp16":
            # deepspeed/runtime/fp16/loss_scaler.py: raises at the lowest scale; our guard counts skipped steps.
            self.zero.inner.loss_scaler.raise_error_at_min_scale = False
        self._gradients = GradientFinisher(
            self.zero, topology, zero_stage=config.parallel.zero_stage, tied=config.model.tie_embeddings
        )
        self._pipeline = Pipeline(self._deepspeed, megatron, lambda: self.zero.loss_scale, config.seed)

    def train_batch(
        self, micro_batches: list[MicroBatch], *, step: int, learning_rate: float, votes: Votes = lambda: ()
    ) -> StepResult:
        """Train on one global batch.

        Args:
            micro_batches: this data rank's part of it.
            step: number of the step, from 0.
            learning_rate: for this step.
            votes: gives what is summed over all ranks beside the loss, so that ranks agree without a collective of
                their own; as many numbers on every rank. Asked when the backward passes are over.
        """
        for group in self.zero.param_groups:
            group["lr"] = learning_rate
        batches = [_to_device(batch, self.topology.device) for batch in micro_batches]
        tokens = self._sum_over_data(torch.stack([batch.loss_mask_BS.sum() for batch in batches]).sum())
        scale = self.zero.loss_scale
        self._deepspeed.train()
        self.zero.begin_step()
        # The schedule divides by the micro-batches and the optimizer by the data ranks; the mean is over all tokens.
        means = len(batches) * self.topology.layout.data
        loss_sum = self._pipeline.run(batches, step=step, loss_weight=means / float(tokens), forward_only=False)
        self._gradients.expect(self._once(loss_sum) / means, list(votes()))
        if self.before_update is not None:
            self.before_update()
        self._deepspeed.step()
        numbers = self._gradients.last
        fp16 = self.config.training.precision == "fp16"
        return StepResult(
            loss=numbers.loss,
            grad_norm=numbers.grad_norm,
            applied=bool(self._deepspeed.was_step_applied()),
            loss_scale=scale if fp16 else None,
            votes=tuple(numbers.votes),
        )

    def evaluate(self, micro_batches: list[MicroBatch], token_bytes: torch.Tensor | None = None) -> EvaluationSums:
        """Sum the losses of `micro_batches` over all data ranks, without training.

        Args:
            micro_batches: this data rank's.
            token_bytes: int [vocabulary], UTF-8 bytes of each token; None: not counted.
        """
        batches = [_to_device(batch, self.topology.device) for batch in micro_batches]
        self._deepspeed.eval()
        with torch.no_grad():
            loss_sum = self._pipeline.run(batches, step=0, loss_weight=1.0, forward_only=True)
        tokens = torch.stack([batch.loss_mask_BS.sum() for batch in batches]).sum().double()
        label_bytes = torch.zeros((), dtype=torch.float64, device=self.topology.device)
        if token_bytes is not None:
            table = token_bytes.to(self.topology.device, torch.float64)
            for batch in batches:
                label_bytes += (table[batch.labels_BS] * batch.loss_mask_BS).sum()
        sums = torch.stack([self._once(loss_sum).double(), self._once(tokens), self._once(label_bytes)])
        dist.all_reduce(sums)
        self._deepspeed.train()
        return EvaluationSums(*sums.tolist())

    def parameter_norm(self) -> float:
        """Norm of the master weights of the whole model."""
        owned = [o for o in self.zero.owned_ranges() if self._gradients.is_counted(o.parameter)]
        views = [o.flat.data[o.offset : o.offset + o.stop - o.start] for o in owned]
        total = torch.zeros((), device=self.topology.device)
        if views:
            total += torch.stack(torch._foreach_norm(views)).square().sum().to(self.topology.device)
        dist.all_reduce(total)
        return float(total.sqrt())

    def pieces(self) -> list[Piece]:
        """Views of the master weights and moments that this rank holds; filling them and `restore` loads a state."""
        return self.zero.pieces(self._gradients.is_counted)

    def optimizer_step(self) -> int:
        """Steps that the optimizer has applied."""
        return self.zero.optimizer_step()

    def restore(self, optimizer_step: int, loss_scale: dict[str, Any] | None) -> None:
        """Take up the state that was written into `pieces`."""
        self.zero.restore(optimizer_step)
        if loss_scale is not None:
            vars(self.zero.inner.loss_scaler).update(loss_scale)

    def loss_scale_state(self) -> dict[str, Any] | None:
        """fp16's dynamic loss scale with its counters; None in other precisions."""
        if self.config.training.precision != "fp16":
            return None
        scaler = vars(self.zero.inner.loss_scaler)
        return {key: scaler[key] for key in ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")}

    def _once(self, value: torch.Tensor | None) -> torch.Tensor:
        """`value` on the one rank of each tensor x pipeline plane that speaks for its data rank; 0 on the others."""
        if value is not None and self.topology.is_last_stage and self.topology.tensor_rank == 0:
            return value
        return torch.zeros((), device=self.topology.device, dtype=torch.float32 if value is None else value.dtype)

    def _sum_over_data(self, value: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(value, group=self.topology.data_group)
        return value


def _adamw(parameters: list[torch.nn.Parameter], config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW with decay groups. Tied embeddings have a group of their own, so that both copies are cut alike."""
    tied = [p for p in parameters if p.global_name == TIED_WEIGHT]  # type: ignore[attr-defined]
    others = [p for p in parameters if p.global_name != TIED_WEIGHT]  # type: ignore[attr-defined]
    groups = [
        {"params": tied, "weight_decay": config.weight_decay},
        {"params": [p for p in others if p.weight_decays], "weight_decay": config.weight_decay},  # type: ignore[attr-defined]
        {"params": [p for p in others if not p.weight_decays], "weight_decay": 0.0},  # type: ignore[attr-defined]
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=config.lr,
        betas=(config.beta1, config.beta2),
        eps=config.epsilon,
        fused=True,
    )


def _to_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    if device.type == "cpu":
        return batch
    moved: dict[str, Any] = {
        k: v.to(device, non_blocking=True) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)
    }
    return replace(batch, **moved)
