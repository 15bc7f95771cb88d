"""Ways to break instruction tuning that are silent and wrong when missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _conversations_see_each_other(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.gpt import network

    saboteur.replace(network, "seen_by", lambda segment_ids_BS, prefix_lengths_B: None)


def _positions_go_on(case: Case, saboteur: Saboteur) -> None:
    from pretrain.objectives.instruct import InstructObjective

    original = InstructObjective.batch

    def batch(self: Any, samples: Any, number: int) -> Any:
        made = original(self, samples, number)
        positions = torch.arange(made.tokens_BS.shape[1]).expand_as(made.tokens_BS).contiguous()
        return replace(made, position_ids_BS=positions)

    saboteur.replace(InstructObjective, "batch", batch)


def _all_tokens_are_labels(case: Case, saboteur: Saboteur) -> None:
    from pretrain.objectives.instruct import InstructObjective

    original = InstructObjective.batch

    def batch(self: Any, samples: Any, number: int) -> Any:
        made = original(self, samples, number)
        return replace(made, loss_mask_BS=torch.ones_like(made.loss_mask_BS))

    saboteur.replace(InstructObjective, "batch", batch)


def _mean_of_micro_batches(case: Case, saboteur: Saboteur) -> None:
    from pretrain.objectives.token_loss import TokenLoss

    original = TokenLoss.losses

    def losses(self: Any, output: Any, labels_BS: torch.Tensor, loss_mask_BS: torch.Tensor) -> Any:
        found = original(self, output, labels_BS, loss_mask_BS)
        return {name: value / loss_mask_BS.sum().clamp(min=1) for name, value in found.items()}

    saboteur.replace(TokenLoss, "losses", losses)
    saboteur.replace(TokenLoss, "weights", lambda self, mask: dict.fromkeys(self.coefficients, torch.ones(())))


INSTRUCT_MUTATIONS: dict[str, Mutation] = {
    "conversations that see each other": Mutation(
        18, "instruct, zero 1", _conversations_see_each_other, Differs(loss=1e-3, norm=1e-2)
    ),
    "positions that go on over conversations": Mutation(
        18, "instruct, zero 2, data 2, gpt2", _positions_go_on, Differs(loss=1e-3, norm=1e-2)
    ),
    "labels that are no answers": Mutation(
        18, "instruct, zero 1", _all_tokens_are_labels, Differs(loss=1e-3, norm=1e-2)
    ),
    "means of micro-batches": Mutation(
        1, "instruct, zero 1, pipeline 2", _mean_of_micro_batches, Differs(loss=1e-3, norm=1e-2)
    ),
}
