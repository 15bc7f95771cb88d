"""One rank's training engine: train on a global batch, evaluate, expose the state to checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from pretrain.checkpoint.state_shards import StateShard
from pretrain.config import RunConfig
from pretrain.data.batch import MicroBatch
from pretrain.engine import determinism, upstream
from pretrain.engine.deepspeed_config import communication_precision, deepspeed_config
from pretrain.engine.embedding_gradient import scale_lookup_gradient
from pretrain.engine.gradients import GradientFinisher
from pretrain.engine.group_adapter import GroupAdapter
from pretrain.engine.layer_norms import LayerNorm, LayerNormMeter
from pretrain.engine.norms import square_sum
from pretrain.engine.parameter_groups import grouped_optimizer
from pretrain.engine.partitioning import give_memory
from pretrain.engine.pipeline import Pipeline
from pretrain.engine.processes import cores_of_this_rank, mark_progress
from pretrain.engine.topology import Topology
from pretrain.engine.zero_optimizer import ZeroOptimizer
from pretrain.engine.zero_partitions import FlatPartitions, ParameterPartitions
from pretrain.models.family import Output, family_of
from pretrain.models.initial_values import InitialValues
from pretrain.models.initialization import Fill, build_stage, first_values
from pretrain.objectives.objective import EvaluationSums, Objective

Flags = Callable[[], Sequence[float]]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """One optimizer step, over all ranks.

    Attributes:
        losses: mean of each loss over the global batch, by name.
        loss: what was trained: each loss times its coefficient, summed.
        grad_norm: norm of the gradient before clipping.
        applied: False if a loss or the gradient were not finite and the step was skipped.
        loss_scale: fp16's scale during the step; None in other precisions.
        flags: each flag that was given, summed over the ranks.
        layer_norms: norms of each layer, where the step was to measure them.
    """

    losses: dict[str, float]
    loss: float
    grad_norm: float
    applied: bool
    loss_scale: float | None
    flags: tuple[float, ...] = ()
    layer_norms: Mapping[str, LayerNorm] | None = None


class TrainEngine:
    """The model, its optimizer and its schedule on this rank.

    Args:
        config: the run.
        topology: where this rank stands.
        objective: what is trained.
        frozen: gives the values of what is not trained; None: they are drawn.

    Attributes:
        before_update: called in each step after the backward passes, before the optimizer changes what `shards` shows.
    """

    before_update: Callable[[], None] | None = None

    def __init__(self, config: RunConfig, topology: Topology, objective: Objective, frozen: Fill | None = None) -> None:
        deepspeed = upstream.import_deepspeed()
        self.config = config
        self.topology = topology
        self.objective = objective
        upstream.scope_trace_check_to(topology.data_group)
        family = family_of(config.model)
        dtype = _DTYPES[config.training.precision]
        sequence_parallel = config.parallel.sequence_parallel
        module, transformer_config = build_stage(
            family, config.model, config.parallel, dtype, topology.place, config.method
        )
        if config.optimizer.embedding_gradient != 1.0 and config.model.token_embedding is not None:
            scale_lookup_gradient(module, config.model.token_embedding, config.optimizer.embedding_gradient)
        if config.training.deterministic:
            determinism.look_up_by_index(module)
        settings = deepspeed_config(config.training, config.parallel, config.optimizer.clip_grad_norm)
        groups = GroupAdapter(partitions=config.parallel.zero_stage > 0)
        fill = first_values(InitialValues(config.seed, cores_of_this_rank()), frozen, config.trained_parameters())
        give_memory(module, settings, groups, topology.device, fill)
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self._deepspeed, *_ = deepspeed.initialize(
            model=module,
            optimizer=grouped_optimizer(parameters, config.optimizer, config.model.num_layers),
            config=settings,
            mpu=groups,
            dist_init_required=False,
        )
        zero_class = ParameterPartitions if config.parallel.zero_stage == 3 else FlatPartitions
        self.zero: ZeroOptimizer = zero_class(
            self._deepspeed.optimizer, parameters, config.optimizer, is_first_data_rank=topology.data_rank == 0
        )
        self.zero.attach(topology.slice_ranks(divides_shards=config.parallel.zero_stage > 0))
        if config.optimizer.average_decay is not None:
            self.zero.ensure_states()  # the averages begin with the first weights
        if config.training.precision == "fp16":
            # deepspeed/runtime/fp16/loss_scaler.py:257 (update_scale): raises at the lowest scale; our guard counts
            # skipped steps instead.
            self.zero.inner.loss_scaler.raise_error_at_min_scale = False
        zero_stage, configured = config.parallel.zero_stage, config.parallel.communication_precision
        self._gradients = GradientFinisher(
            self.zero,
            topology,
            zero_stage=zero_stage,
            sequence_parallel=sequence_parallel,
            communication_dtype=_DTYPES[communication_precision(config.training.precision, zero_stage, configured)],
        )
        self._layer_norms = LayerNormMeter(self.zero, topology, config.model.parameters(), self._gradients.is_counted)
        coefficients = list(objective.coefficients.values())
        self._coefficients = torch.tensor(coefficients, device=topology.device, dtype=torch.float64)
        self._pipeline = Pipeline(
            self._deepspeed, family, transformer_config, lambda: self.zero.loss_scale, config.seed
        )

    @property
    def stage(self) -> torch.nn.Module:
        """The part of the network that this rank has."""
        module: torch.nn.Module = self._deepspeed.module
        return module

    def train_batch(
        self,
        micro_batches: list[MicroBatch],
        *,
        step: int,
        learning_rate: float,
        weight_decay: float | None = None,
        flags: Flags = lambda: (),
        measures_layers: bool = False,
    ) -> StepResult:
        """Train on one global batch.

        Args:
            micro_batches: this data rank's part of it.
            step: number of the step, from 0.
            learning_rate: for this step.
            weight_decay: for this step; None: as configured.
            flags: gives what is summed over all ranks beside the losses, so that ranks agree without a collective of
                their own; as many numbers on every rank. Asked when the backward passes are over.
            measures_layers: whether the norms of each layer are wanted.
        """
        mark_progress()
        self._set_rates(learning_rate, weight_decay)
        batches = [_to_device(batch, self.topology.device) for batch in micro_batches]
        weights = self._sum_over_data(torch.stack([self._weights(batch) for batch in batches]).sum(0))
        scale = self.zero.loss_scale
        self._deepspeed.train()
        self.zero.begin_step()
        # The schedule divides by the micro-batches and the optimizer by the data ranks; each mean is over its weight.
        means = len(batches) * self.topology.layout.data
        shares = torch.where(weights > 0, 1.0 / weights, torch.zeros_like(weights))
        factors = (shares * self._coefficients * means).float()
        sums: list[torch.Tensor] = []

        def loss(output: Output, batch: MicroBatch) -> torch.Tensor:
            found = self.objective.losses(output, batch)
            stacked = torch.stack([found[name].float() for name in self.objective.coefficients])
            sums.append(stacked.detach())
            return trained_loss(stacked, factors)

        self._pipeline.run(batches, loss, step=step, forward_only=False)
        self._gradients.expect(self._once(sums, len(factors)) * shares, list(flags()))
        if self.before_update is not None:
            self.before_update()
        if measures_layers:
            self._layer_norms.begin()
        self._gradients.observe = self._layer_norms.take_gradients if measures_layers else None
        self._deepspeed.step()
        applied = bool(self._deepspeed.was_step_applied())
        if applied and self.config.optimizer.average_decay is not None:
            self.zero.update_averages(self.config.optimizer.average_decay)
        numbers = self._gradients.last
        fp16 = self.config.training.precision == "fp16"
        return StepResult(
            losses=dict(zip(self.objective.coefficients, numbers.losses)),
            loss=sum(c * mean for c, mean in zip(self.objective.coefficients.values(), numbers.losses)),
            grad_norm=numbers.grad_norm,
            applied=applied,
            loss_scale=scale if fp16 else None,
            flags=tuple(numbers.flags),
            layer_norms=self._layer_norms.end() if measures_layers else None,
        )

    def _set_rates(self, learning_rate: float, weight_decay: float | None) -> None:
        decay = self.config.optimizer.weight_decay if weight_decay is None else weight_decay
        for group in self.zero.param_groups:
            group["lr"] = learning_rate * group["lr_scale"]
            group["weight_decay"] = decay * group["decay_scale"]

    def evaluate(self, micro_batches: list[MicroBatch], objective: EvaluationSums) -> dict[str, float]:
        """The evaluation sums of `micro_batches` over all data ranks, without training.

        Args:
            micro_batches: this data rank's.
            objective: made for evaluations; says what is summed.
        """
        mark_progress()
        batches = [_to_device(batch, self.topology.device) for batch in micro_batches]
        sums: list[torch.Tensor] = []

        def loss(output: Output, batch: MicroBatch) -> torch.Tensor:
            found = objective.evaluation_sums(output, batch)
            sums.append(torch.stack([found[name].double() for name in objective.evaluation_names]))
            return torch.zeros((), device=self.topology.device)  # nothing is trained

        self._deepspeed.eval()
        with torch.no_grad():
            self._pipeline.run(batches, loss, step=0, forward_only=True)
        total = self._once(sums, len(objective.evaluation_names))
        dist.all_reduce(total)
        self._deepspeed.train()
        return dict(zip(objective.evaluation_names, total.tolist()))

    def parameter_norm(self) -> float:
        """Norm of the fp32 master parameters of the whole model."""
        owned = [o for o in self.zero.owned_ranges() if self._gradients.is_counted(o.parameter)]
        views = (o.flat.data[o.offset : o.offset + o.stop - o.start] for o in owned)
        total = square_sum(views, self.topology.device)
        dist.all_reduce(total)
        return float(total.sqrt())

    def shards(self) -> list[StateShard]:
        """Views of this rank's fp32 master parameters and optimizer states; to load, fill them and call `restore`."""
        return self.zero.shards(self._gradients.is_counted)

    def fill_weights(self, fill: Fill) -> None:
        """Give a new model other weights than the drawn ones, in the precision of the master parameters.

        Args:
            fill: writes a part of a parameter; each rank asks for what it keeps, one parameter after the other.
        """
        for owned in self.zero.owned_ranges():
            target = owned.flat.data[owned.offset : owned.offset + owned.stop - owned.start]
            fill(owned.parameter.spec, owned.parameter.sharded_shape, owned.start, owned.stop, target)  # type: ignore[attr-defined]
        self.zero.restore(0)
        if self.config.optimizer.average_decay is not None:
            self.zero.begin_averages()

    def optimizer_step(self) -> int:
        """Steps that the optimizer has applied."""
        return self.zero.optimizer_step()

    def restore(self, optimizer_step: int, loss_scale: dict[str, Any] | None) -> None:
        """Take up the state that was written into `shards`."""
        self.zero.restore(optimizer_step)
        if loss_scale is not None:
            vars(self.zero.inner.loss_scaler).update(loss_scale)

    def loss_scale_state(self) -> dict[str, Any] | None:
        """fp16's dynamic loss scale with its counters; None in other precisions."""
        if self.config.training.precision != "fp16":
            return None
        scaler = vars(self.zero.inner.loss_scaler)
        return {key: scaler[key] for key in ("cur_scale", "cur_iter", "last_overflow_iter", "cur_hysteresis")}

    def _weights(self, batch: MicroBatch) -> torch.Tensor:
        found = self.objective.weights(batch)
        return torch.stack([found[name].double() for name in self.objective.coefficients])

    def _once(self, found: list[torch.Tensor], count: int) -> torch.Tensor:
        """The fp64 sum of `found` on the last stage's tensor rank 0, which alone counts for its data rank; else 0."""
        if found and self.topology.is_last_stage and self.topology.tensor_rank == 0:
            return torch.stack(found).sum(0, dtype=torch.float64)
        return torch.zeros(count, device=self.topology.device, dtype=torch.float64)

    def _sum_over_data(self, value: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(value, group=self.topology.data_group)
        return value


def trained_loss(sums_K: torch.Tensor, factors_K: torch.Tensor) -> torch.Tensor:
    """The scalar whose gradient is taken. A tensor of its own: the schedule divides it in place."""
    return (sums_K * factors_K).sum()


def _to_device(batch: MicroBatch, device: torch.device) -> MicroBatch:
    if device.type == "cpu":
        return batch
    moved: dict[str, Any] = {
        k: v.to(device, non_blocking=True) for k, v in vars(batch).items() if isinstance(v, torch.Tensor)
    }
    moved["extras"] = {k: v.to(device, non_blocking=True) for k, v in batch.extras.items()}
    return replace(batch, **moved)
