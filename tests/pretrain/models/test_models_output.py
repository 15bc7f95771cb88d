"""What an output says of labels: the same however the vocabulary is cut over tensor ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from pretrain.models.family import Output
from tests.distributed import run_ranks

LARGEST = ([1], [1, 4], [5], [0, 1, 2, 3, 4, 5], [3, 4], [2, 3])
"""The ids with the largest logit at each position, of a vocabulary of 6."""


def logits() -> torch.Tensor:
    """[S, B, V], here [6, 1, 6]."""
    logits_SBV = torch.zeros(len(LARGEST), 1, 6)
    for position, ids in enumerate(LARGEST):
        logits_SBV[position, 0, ids] = 2.0
    return logits_SBV


def top_by_label(ranks: int) -> list[list[bool]]:
    """On each rank: of each label, at which positions it is the likeliest."""
    rank = dist.get_rank()
    width = 6 // ranks
    output = Output(logits()[..., rank * width : (rank + 1) * width], dist.group.WORLD)
    return [output.is_top(torch.full((1, len(LARGEST)), label))[0].tolist() for label in range(6)]


@pytest.mark.parametrize("ranks", [0, 2, 3])
def test_of_equal_logits_the_lowest_id_alone_is_the_likeliest(ranks: int) -> None:
    expected = [[label == ids[0] for ids in LARGEST] for label in range(6)]
    if not ranks:
        output = Output(logits())
        labels = [torch.full((1, len(LARGEST)), label) for label in range(6)]
        assert [output.is_top(labels_BS)[0].tolist() for labels_BS in labels] == expected
        return
    assert run_ranks(top_by_label, ranks, ranks) == [expected] * ranks


def test_logits_that_are_no_numbers_are_nobodys() -> None:
    output = Output(torch.full((3, 2, 6), torch.nan))
    assert not any(output.is_top(torch.full((2, 3), label)).any() for label in range(6))
