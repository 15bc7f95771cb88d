"""The source of a module with a kind of each sort, made in a temporary folder: nothing in the project knows it."""

from __future__ import annotations

TOY_KINDS = '''
"""A network without attention, an objective that asks for the token itself, an optimizer that takes signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file

from finetune.tasks.base import FinetuneTask
from finetune.tasks.base_config import TaskConfig

from pretrain.config import ModelConfig, ObjectiveConfig, OptimizerConfig, SampleCutting
from pretrain.config.optimizer import StateSpec
from pretrain.data.batch import MicroBatch
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.models.family import Output
from pretrain.models.huggingface.rules import same, vocabulary
from pretrain.models.megatron_config import schedule_config
from pretrain.models.parameter_table import Constant, Normal, ParameterSpec, Use


class ToyModelConfig(ModelConfig):
    """Embedding, norm, output."""

    implementation: ClassVar[str] = "toy_kinds:ToyFamily"
    huggingface: ClassVar[tuple[str, ...]] = ("toy_kinds:ToyHuggingFace",)

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
        return SampleCutting(TOKEN_STREAM, model.seq_length)


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
    is_element_wise: ClassVar[bool] = True

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

    def initial_state(self, flat, config):
        return {"average": torch.zeros_like(flat)}


class ToyHuggingFace:
    """A Llama without layers computes the same."""

    model_type = "llama"
    classes = {"causal": "LlamaForCausalLM"}
    sees_both_sides = False
    poolings = {"first": {}}

    def head(self, model):
        return "causal"

    def obstacle(self, model):
        return None

    def to_config(self, model, ids):
        return {
            "hidden_size": model.hidden_size,
            "num_hidden_layers": 0,
            "num_attention_heads": 1,
            "intermediate_size": 1,
            "max_position_embeddings": model.seq_length,
            "rms_norm_eps": 1e-6,
            "tie_word_embeddings": False,
        }

    def from_config(self, fields, where):
        return ToyModelConfig(
            name="toy_kinds:ToyModelConfig",
            num_layers=1,
            hidden_size=fields["hidden_size"],
            seq_length=fields["max_position_embeddings"],
            vocab_size=fields["vocab_size"],
        )

    def rules(self, model, ids):
        return [
            vocabulary("embedding.weight", "model.embed_tokens.weight", model),
            same("norm.weight", "model.norm.weight"),
            vocabulary("output.weight", "lm_head.weight", model),
        ]


class ToyTaskConfig(TaskConfig):
    """Is a text long?"""

    implementation: ClassVar[str] = "toy_kinds:ToyTask"
    files: ClassVar[tuple[str, ...]] = ("toy.safetensors",)

    texts: Path
    """Lines of JSON with a text."""


@dataclass(frozen=True)
class ToyTexts:
    rows: list[list[int]]

    @property
    def lengths(self):
        return [len(row) for row in self.rows]

    @property
    def weights(self):
        return [1.0] * len(self.rows)


class ToyTask(FinetuneTask):
    def __init__(self, config):
        self.config = config

    def read(self):
        texts = [json.loads(line)["text"] for line in self.config.texts.open()]
        return {"train": texts[20:], "validation": texts[:10], "test": texts[10:20]}

    def encode(self, pretrained, examples):
        return ToyTexts(pretrained.codec.encode_batch(list(examples)))

    def network(self, pretrained, *, from_scratch=False):
        table = pretrained.tensors["model.embed_tokens.weight"]
        network = toy_network(*table.shape)
        network[0].weight.data.copy_(table)
        return network

    def losses(self, model, part, numbers, device):
        rows = [part.rows[number] for number in numbers]
        width = max(map(len, rows))
        tokens_BS = torch.tensor([(row * width)[:width] for row in rows], device=device)
        long_B = torch.tensor([float(len(row) > 20) for row in rows], device=device)
        said_B = model(tokens_BS)[:, 0].float()
        return torch.nn.functional.binary_cross_entropy_with_logits(said_B, long_B, reduction="none")

    def predict(self, model, part, numbers, device):
        return self.losses(model, part, numbers, device).tolist()

    def validation_figures(self, part, predicted):
        return {"loss": sum(predicted) / len(predicted)}

    def figures(self, part, predicted):
        return dict(self.validation_figures(part, predicted))

    def prediction(self, example, predicted):
        return {"loss": predicted}

    def save(self, folder, network, weights, pretrained):
        save_file(weights, folder / "toy.safetensors")

    def load(self, folder):
        weights = load_file(folder / "toy.safetensors")
        network = toy_network(*weights["0.weight"].shape)
        network.load_state_dict(weights)
        return network


def toy_network(vocabulary, width):
    return torch.nn.Sequential(torch.nn.EmbeddingBag(vocabulary, width, mode="mean"), torch.nn.Linear(width, 1))
'''
