"""Ways to break the choices of decoders that are silent and wrong when missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _window_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models import layers

    original = layers.visible

    def visible(*arguments: Any, **how: Any) -> torch.Tensor | None:
        return original(*arguments, **how | {"window": None})

    saboteur.replace(layers, "visible", visible)


def _window_one_too_wide(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.config import GPTConfig

    saboteur.replace(GPTConfig, "window", lambda self, layer: self.sliding_window)


def _scaled_by_the_width_per_head(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.config import GPTConfig

    saboteur.replace(
        GPTConfig, "softmax_scale", lambda self, layer: (self.hidden_size / self.num_attention_heads) ** -0.5
    )


def _biases_of_heads_summed(case: Case, saboteur: Saboteur) -> None:
    """The gradient of a bias that is cut with the heads, taken for one that is whole on each rank."""
    from pretrain.engine import gradients

    original = gradients.GradientFinisher.sum_sequence_parallel

    def those_too(self: Any, shards: Any) -> None:
        original(self, shards)
        self._all_reduce([g for p, g in shards if "linear_qkv.bias" in p.spec.name], self.topology.tensor_group)

    saboteur.replace(gradients.GradientFinisher, "sum_sequence_parallel", those_too)


def _sums_over_heads_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    saboteur.replace(gradients.GradientFinisher, "sum_tensor_partial", lambda self, shards: None)


def _attention_factor_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.config import GPTConfig

    saboteur.replace(GPTConfig, "softmax_scale", lambda self, layer: None)


def _fast_angles_scaled_too(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import rotary

    saboteur.replace(rotary, "_kept_by_llama3", lambda plain_F, scaling: torch.zeros_like(plain_F))


def _whole_head_rotated(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import rotary

    original = rotary.frequencies

    def of_the_head(size: int, base: float, scaling: Any) -> torch.Tensor:
        config: Any = case.model_config()
        return original(config.head_size, base, scaling)

    saboteur.replace(rotary, "frequencies", of_the_head)


def _one_after_the_other(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.layer import DecoderLayer

    original = DecoderLayer.forward

    def forward(self: Any, hidden_states: torch.Tensor, **inputs: Any) -> Any:
        self.residual = "sequential"
        return original(self, hidden_states, **inputs)

    saboteur.replace(DecoderLayer, "forward", forward)


def _mlp_without_its_norm(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.layer import DecoderLayer

    original = DecoderLayer.forward

    def forward(self: Any, hidden_states: torch.Tensor, **inputs: Any) -> Any:
        # Where one norm is shared, the layer's own place for the MLP's holds nothing.
        self.residual = "parallel"
        return original(self, hidden_states, **inputs)

    saboteur.replace(DecoderLayer, "forward", forward)


def _output_bias_summed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    original = gradients.GradientFinisher.sum_tensor_partial

    def that_too(self: Any, shards: Any) -> None:
        original(self, shards)
        self._all_reduce([g for p, g in shards if p.spec.name == "output_layer.bias"], self.topology.tensor_group)

    saboteur.replace(gradients.GradientFinisher, "sum_tensor_partial", that_too)


def _layers_counted_per_stage(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import network

    original = network.layer_specs

    def from_zero(model: Any, config: Any, first: int, count: int) -> Any:
        specs, wrong = original(model, config, first, count), original(model, config, 0, count)
        return [replace(spec, params=other.params) for spec, other in zip(specs, wrong, strict=True)]

    saboteur.replace(network, "layer_specs", from_zero)


def _global_angles_everywhere(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.config import GPTConfig

    saboteur.replace(GPTConfig, "rotation", lambda self, layer: 0)


def _scores_uncapped(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.layers import CoreAttention

    original = CoreAttention._softcapped

    def loosely(self: Any, *inputs: Any) -> torch.Tensor:
        self.softcap = 1e4
        return original(self, *inputs)

    saboteur.replace(CoreAttention, "_softcapped", loosely)


def _logits_uncapped(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.network import _GPT

    saboteur.replace(_GPT, "compute_language_model_loss", lambda self, labels, logits: logits)


def _embedding_unscaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.network import _ScaledDropout
    from pretrain.models.hidden_dropout import HiddenDropout

    saboteur.replace(_ScaledDropout, "forward", HiddenDropout.forward)


def _outputs_not_normed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt.layer import DecoderLayer

    def plain(self: Any, attended: Any, hidden_states: torch.Tensor) -> torch.Tensor:
        middle = self._add_attention(attended, hidden_states)
        # Every parameter keeps its place in the backward pass.
        unread = 0.0 * (self.post_self_attn_layernorm(middle) + self.post_mlp_layernorm(middle))
        total: torch.Tensor = self._add_mlp(self.mlp(self.pre_mlp_layernorm(middle)), middle) + unread
        return total

    saboteur.replace(DecoderLayer, "_norm_outputs", plain)


def _own_heads_normed_alone(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import norms

    # As if this rank's heads were all: their squares stand for those of the others.
    saboteur.replace(norms, "sum_over_tensor_ranks", lambda x: 2 * x)


def _gradient_of_the_sum_left_to_each_rank(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import norms

    def forward_alone(x: torch.Tensor) -> torch.Tensor:
        total: torch.Tensor = norms.reduce_from_tensor_model_parallel_region(x)
        return total

    saboteur.replace(norms, "sum_over_tensor_ranks", forward_alone)


_TENSOR, _TWO, _STAGES = "zero 1, tensor 2, sequence", "zero 1, data 2", "zero 2, pipeline 2"

DECODER_MUTATIONS: dict[str, Mutation] = {
    "window left out": Mutation(18, f"window, {_TWO}", _window_left_out, Differs(loss=1e-3, norm=1e-2)),
    "window one token too wide": Mutation(18, f"window, {_TWO}", _window_one_too_wide, Differs(norm=1e-3)),
    "scores scaled by the width per head": Mutation(
        9, f"window, {_TWO}", _scaled_by_the_width_per_head, Differs(norm=1e-3)
    ),
    "biases of the heads summed": Mutation(5, f"window, {_TENSOR}", _biases_of_heads_summed, Differs(norm=1e-3)),
    "sums over the heads left out": Mutation(
        5, "qk norm, zero 0, tensor 2", _sums_over_heads_left_out, Differs(norm=1e-3)
    ),
    "the factor of queries and keys left out": Mutation(
        9, f"qk norm, {_TWO}", _attention_factor_left_out, Differs(norm=1e-3)
    ),
    "fast angles scaled too": Mutation(18, f"parallel, {_TWO}", _fast_angles_scaled_too, Differs(norm=1e-3)),
    "whole head rotated": Mutation(18, f"one norm, {_TWO}", _whole_head_rotated, Differs(norm=1e-3)),
    "attention and MLP one after the other": Mutation(
        17, f"parallel, {_TWO}", _one_after_the_other, Differs(norm=1e-2)
    ),
    "MLP without the shared norm": Mutation(17, f"one norm, {_TWO}", _mlp_without_its_norm, Differs(norm=1e-2)),
    "the output's bias summed": Mutation(5, f"one norm, {_TENSOR}", _output_bias_summed, Differs(norm=1e-3)),
    "layers counted from each stage's first": Mutation(
        18, f"local and global, {_STAGES}", _layers_counted_per_stage, Differs(norm=1e-2)
    ),
    "global angles everywhere": Mutation(
        18, f"local and global, {_TWO}", _global_angles_everywhere, Differs(norm=1e-3)
    ),
    "scores uncapped": Mutation(9, f"local and global, {_TWO}", _scores_uncapped, Differs(norm=1e-3)),
    "logits uncapped": Mutation(17, f"local and global, {_TWO}", _logits_uncapped, Differs(norm=1e-2)),
    "embedding unscaled": Mutation(17, f"local and global, {_TWO}", _embedding_unscaled, Differs(norm=1e-2)),
    "outputs not normed": Mutation(17, f"norms after, {_TWO}", _outputs_not_normed, Differs(norm=1e-2)),
    "own heads normed alone": Mutation(9, f"norms after, {_TENSOR}", _own_heads_normed_alone, Differs(norm=1e-3)),
    "the sum's gradient left to each rank": Mutation(
        5, f"norms after, {_TENSOR}", _gradient_of_the_sum_left_to_each_rank, Differs(norm=1e-3)
    ),
}
