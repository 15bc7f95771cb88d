"""The source of a module with a kind of each sort, made in a temporary folder: nothing in the project knows it."""

from __future__ import annotations

TOY_KINDS = '''
"""A network without attention, an objective that asks for the token itself, an optimizer that takes signs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import torch

from pretrain.config import ModelConfig, ObjectiveConfig, OptimizerConfig, Sampling
from pretrain.config.optimizer import StateSpec
from pretrain.data.batch import MicroBatch
from pretrain.data.token_stream import TOKEN_STREAM
from pretrain.models.family import Output
from pretrain.models.megatron_config import schedule_config
from pretrain.models.parameter_table import Constant, Normal, ParameterSpec, Use


class ToyModelConfig(ModelConfig):
    """Embedding, norm, output."""

    implementation: ClassVar[str] = "toy_kinds:ToyFamily"

    def parameters(self) -> Iterator[ParameterSpec]:
        table, init = (self.padded_vocab_size, self.hidden_size), Normal(self.init_std)
        yield ParameterSpec("embedding.weight", table, "first", init, use=Use.LOOKED_UP)
        yield ParameterSpec("norm.weight", (self.hidden_size,), "last", Constant(1.0), decays=False)
        yield ParameterSpec("output.weight", table, "last", init)

    def layout_problems(self, sizes, *, sequence_parallel):
        return [f"a toy has no {axis} axis" for axis in ("tensor", "pipeline") if sizes[axis] > 1]


class ToyNetwork(torch.nn.Module):
    def __init__(self, model: ToyModelConfig) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(model.padded_vocab_size, model.hidden_size)
        self.norm = torch.nn.RMSNorm(model.hidden_size, eps=1e-6)
        self.output = torch.nn.Linear(model.hidden_size, model.padded_vocab_size, bias=False)

    def set_input_tensor(self, tensor) -> None:
        """There is no stage before."""

    def forward(self, tokens_BS: torch.Tensor) -> torch.Tensor:
        return self.output(self.norm(self.embedding(tokens_BS))).transpose(0, 1)


class ToyFamily:
    def build(self, model, parallel, dtype, place):
        return ToyNetwork(model).to(dtype), schedule_config(model.hidden_size, parallel, dtype)

    def forward(self, stage, module, batch):
        return Output(stage(batch.tokens_BS))


class ToyObjectiveConfig(ObjectiveConfig):
    """Say each token again."""

    implementation: ClassVar[str] = "toy_kinds:ToyObjective"

    def sampling(self, model, *, documents_apart):
        return Sampling(TOKEN_STREAM, model.seq_length)


class ToyObjective:
    coefficients = {"echo": 1.0, "late": 0.5}
    evaluation_names = ("nats", "tokens", "hits")

    def __init__(self, config, context) -> None:
        pass

    def batch(self, samples, number):
        tokens_BS = torch.from_numpy(samples.tokens.copy())
        counts_BS = torch.arange(tokens_BS.shape[1]) < torch.from_numpy(samples.num_tokens)[:, None]
        positions_BS = torch.arange(tokens_BS.shape[1]).expand_as(tokens_BS)
        return MicroBatch(tokens_BS, tokens_BS, counts_BS.float(), positions_BS, number=number)

    def weights(self, batch):
        return {"echo": batch.loss_mask_BS.sum(), "late": batch.loss_mask_BS[:, 1:].sum()}

    def losses(self, output, batch):
        nats_BS = output.nll(batch.labels_BS) * batch.loss_mask_BS
        return {"echo": nats_BS.sum(), "late": nats_BS[:, 1:].sum()}

    def evaluation_sums(self, output, batch):
        nats_BS = output.nll(batch.labels_BS) * batch.loss_mask_BS
        hits = (output.is_top(batch.labels_BS) * batch.loss_mask_BS).sum()
        return {"nats": nats_BS.sum(), "tokens": batch.loss_mask_BS.sum(), "hits": hits}

    def figures(self, sums):
        return {"loss": sums["nats"] / sums["tokens"], "echo_accuracy": sums["hits"] / sums["tokens"]}


class ToyOptimizerConfig(OptimizerConfig):
    """Signs of an average of gradients (the update of Lion with one decay)."""

    implementation: ClassVar[str] = "toy_kinds:ToyOptimizer"
    states: ClassVar[tuple[StateSpec, ...]] = (StateSpec("average"),)

    decay_of_average: float = 0.9
    """How much of the average stays."""


class SignDescent(torch.optim.Optimizer):
    def __init__(self, groups, lr: float, decay: float) -> None:
        super().__init__(groups, {"lr": lr, "decay": decay, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["average"] = torch.zeros_like(parameter)
                state["average"].lerp_(parameter.grad, 1 - group["decay"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(state["average"].sign(), alpha=-group["lr"])


class ToyOptimizer:
    def build(self, groups, config):
        return SignDescent(groups, config.lr, config.decay_of_average)

    def initial_state(self, flat):
        return {"average": torch.zeros_like(flat)}
'''
