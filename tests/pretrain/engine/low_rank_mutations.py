"""Ways to break low-rank adapters under tensor parallelism that are silent and wrong when missed."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _whole_factors_not_summed(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import gradients

    saboteur.replace(gradients.GradientFinisher, "sum_sequence_parallel", lambda self, shards: None)


def _own_rows_alone_go_backward(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models import low_rank

    saboteur.replace(low_rank, "copy_to_tensor_model_parallel_region", lambda thin: thin)


def _own_columns_alone_go_forward(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models import low_rank

    saboteur.replace(low_rank, "reduce_from_tensor_model_parallel_region", lambda thin: thin)


def _drawn_by_rank(case: Case, saboteur: Saboteur) -> None:
    from pretrain.engine import engine

    original, rank = engine.first_values, os.environ["RANK"]

    def first_values(drawn: Any, frozen: Any, trained: Any) -> Any:
        fill, names = original(drawn, frozen, trained), {spec.name for spec in trained}

        def filled(spec: Any, *place: Any) -> None:
            # The whole factor would differ from rank to rank; of a cut one, each rank draws its part alone.
            fill(replace(spec, name=spec.name + rank) if spec.name in names else spec, *place)

        return filled

    saboteur.replace(engine, "first_values", first_values)


def _no_gradient_for_what_is_computed_again(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models import low_rank

    saboteur.replace(low_rank, "_require_gradient", lambda module, inputs, output: output)


LOW_RANK_MUTATIONS: dict[str, Mutation] = {
    "whole factors not summed": Mutation(
        5, "lora, zero 1, tensor 2, sequence", _whole_factors_not_summed, Differs(norm=1e-2)
    ),
    "own rows alone go backward": Mutation(
        5, "lora, zero 1, tensor 2", _own_rows_alone_go_backward, Differs(norm=2e-3)
    ),
    "own columns alone go forward": Mutation(
        5, "lora, zero 1, tensor 2", _own_columns_alone_go_forward, Differs(loss=1e-3, norm=1e-2)
    ),
    "drawn by rank": Mutation(5, "lora, zero 1, tensor 2", _drawn_by_rank, Differs(loss=1e-3, norm=1e-2)),
    "nothing to compute again for": Mutation(
        8,
        "lora, zero 3, data 2, recompute full",
        _no_gradient_for_what_is_computed_again,
        Differs(norm=0.5),
    ),
}
