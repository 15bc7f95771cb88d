"""Ways to break the encoders that are silent and wrong when missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _see_otherwise(saboteur: Saboteur, **changes: Any) -> None:
    """Change what a query sees: arguments of `visible`."""
    from pretrain.models import layers

    original = layers.visible

    def visible(segment_ids_BS: torch.Tensor | None, like: torch.Tensor, **arguments: Any) -> torch.Tensor | None:
        given = {"segment_ids_BS": segment_ids_BS} | arguments | changes
        return original(like=like, **given)

    saboteur.replace(layers, "visible", visible)


def _made_causal(case: Case, saboteur: Saboteur) -> None:
    _see_otherwise(saboteur, is_causal=True)


def _neighbours_seen(case: Case, saboteur: Saboteur) -> None:
    _see_otherwise(saboteur, segment_ids_BS=None)


def _window_left_out(case: Case, saboteur: Saboteur) -> None:
    _see_otherwise(saboteur, window=None)


def _one_rotary_base(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder.stage import EncoderStage

    original = EncoderStage._angles

    def angles(self: Any, length: int) -> torch.Tensor | None:
        both = original(self, length)
        return None if both is None else both[:1].expand_as(both)

    saboteur.replace(EncoderStage, "_angles", angles)


def _layers_counted_per_stage(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder import stage

    original = stage.layer_specs

    def from_zero(model: Any, config: Any, first: int, count: int) -> Any:
        # The layers keep their parameters; their windows and rotary bases are those of the first stage's.
        specs, wrong = original(model, config, first, count), original(model, config, 0, count)
        return [replace(spec, params=other.params) for spec, other in zip(specs, wrong, strict=True)]

    saboteur.replace(stage, "layer_specs", from_zero)


def _decoder_gradient_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    saboteur.replace(gradients.GradientFinisher, "sum_tied", lambda self, shards: None)


def _head_sums_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    original = gradients.GradientFinisher.sum_sequence_parallel

    def all_but_the_head(self: Any, shards: Any) -> None:
        original(self, [(p, g) for p, g in shards if not p.spec.name.startswith("lm_head.")])

    saboteur.replace(gradients.GradientFinisher, "sum_sequence_parallel", all_but_the_head)


def _pooler_gradient_summed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder import heads

    original = heads.tensor_parallel.gather_from_sequence_parallel_region

    def summed_in_backward(tensor: torch.Tensor, *, tensor_parallel_output_grad: bool, group: Any) -> Any:
        return original(tensor, tensor_parallel_output_grad=True, group=group)

    saboteur.replace(heads.tensor_parallel, "gather_from_sequence_parallel_region", summed_in_backward)


def _pair_labels_swapped(case: Case, saboteur: Saboteur) -> None:
    from tests.pretrain.engine.encoder_objective import MadeUpMaskedObjective

    original = MadeUpMaskedObjective.losses

    def losses(self: Any, output: Any, batch: Any) -> Any:
        swapped = batch.extras | {"pair_labels_B": 1 - batch.extras["pair_labels_B"]}
        return original(self, output, replace(batch, extras=swapped))

    saboteur.replace(MadeUpMaskedObjective, "losses", losses)


ENCODER_MUTATIONS: dict[str, Mutation] = {
    "bidirectional attention made causal": Mutation(
        16, "bert, zero 1, data 2", _made_causal, Differs(loss=1e-3, norm=1e-2)
    ),
    "a document that sees its neighbour": Mutation(
        18, "modern, zero 1, data 2", _neighbours_seen, Differs(loss=1e-3, norm=1e-2)
    ),
    "local attention made global": Mutation(
        18, "modern, zero 1, data 2", _window_left_out, Differs(loss=1e-3, norm=1e-2)
    ),
    "one rotary base for all layers": Mutation(18, "modern, zero 1, data 2", _one_rotary_base, Differs(norm=1e-3)),
    "layers counted from each stage's first": Mutation(
        18, "modern, zero 2, pipeline 2", _layers_counted_per_stage, Differs(loss=1e-3, norm=1e-2)
    ),
    "the decoder's embedding gradient left out": Mutation(
        5, "bert, zero 2, pipeline 2", _decoder_gradient_left_out, Differs(norm=0.1)
    ),
    "the head's sequence-parallel sums left out": Mutation(
        5, "bert, zero 1, tensor 2, sequence", _head_sums_left_out, Differs(norm=1e-2)
    ),
    "the pooler's gradient summed over tensor ranks": Mutation(
        5, "bert, zero 1, tensor 2, sequence", _pooler_gradient_summed, Differs(norm=1e-3)
    ),
    "pair labels swapped": Mutation(18, "bert, zero 1, data 2", _pair_labels_swapped, Differs(loss=1e-2, norm=1e-2)),
}
