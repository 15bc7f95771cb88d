"""Ways to break the objectives of GPT, and the options of losses, that are silent and wrong when missed."""

from __future__ import annotations

from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _prefix_made_causal(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models import layers

    saboteur.replace(layers, "told_apart", lambda seen: (None, None))


def _prefix_of_the_first_sample(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import network

    original = network.seen_by

    def seen_by(segment_ids_BS: Any, prefix_lengths_B: torch.Tensor) -> Any:
        return original(segment_ids_BS, prefix_lengths_B[:1].expand_as(prefix_lengths_B))

    saboteur.replace(network, "seen_by", seen_by)


def _sums_of_one_tensor_rank(case: Case, saboteur: Saboteur) -> None:
    from megatron.core import tensor_parallel

    saboteur.replace(tensor_parallel, "reduce_from_tensor_model_parallel_region", lambda value, group: value)


def _smoothed_over_the_padding(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.family import Output

    original = Output.mean_logit
    saboteur.replace(Output, "mean_logit", lambda self, num_ids: original(self, case.model_config().padded_vocab_size))


def _parts_of_a_mixture_alike(case: Case, saboteur: Saboteur) -> None:
    from pretrain.objectives.mixture import MixtureObjective

    original = MixtureObjective._chosen
    saboteur.replace(MixtureObjective, "_chosen", lambda self, numbers: original(self, 0 * numbers + numbers[0]))


GPT_OBJECTIVE_MUTATIONS: dict[str, Mutation] = {
    "a prefix made causal": Mutation(18, "prefix, zero 1, data 2", _prefix_made_causal, Differs(loss=1e-3, norm=1e-2)),
    "one prefix length for all samples": Mutation(
        18, "prefix, zero 1, data 2", _prefix_of_the_first_sample, Differs(loss=1e-3, norm=1e-2)
    ),
    "log Z of one tensor rank's part": Mutation(
        13, "causal, z and smoothing, zero 1, tensor 2", _sums_of_one_tensor_rank, Differs(loss=1e-2)
    ),
    "a mixture drawn by the micro-batch": Mutation(
        18, "mixture, zero 3, pipeline 2", _parts_of_a_mixture_alike, Differs(loss=1e-3, norm=1e-2)
    ),
    "smoothing over padded ids": Mutation(
        13, "causal, z and smoothing, zero 1, tensor 2", _smoothed_over_the_padding, Differs(norm=1e-3)
    ),
}
