"""What an output says of labels: the same however the vocabulary is cut over tensor ranks."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from pretrain.models.family import Output
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD

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


NUM_IDS = 4
"""Of the six ids of the vocabulary; the last two are padding."""


def scores(ranks: int) -> list[torch.Tensor]:
    """log Z, mean logit and nats of made-up labels, and the gradient of their weighted sum."""
    torch.manual_seed(3)
    whole_SBV = 3 * torch.randn(5, 2, 6, dtype=torch.float32)
    weights = torch.randn(3, 2, 5)
    labels_BS = torch.randint(0, NUM_IDS, (2, 5))
    if not ranks:
        own_SBV, group = whole_SBV.requires_grad_(), None
    else:
        from megatron.core import parallel_state

        parallel_state.initialize_model_parallel(ranks)
        width, group = 6 // ranks, dist.group.WORLD
        own_SBV = whole_SBV[..., dist.get_rank() * width :][..., :width].clone().requires_grad_()
    # As of a model: what nll overwrites is no leaf.
    output = Output(own_SBV * 1.0, group)
    found = [output.log_z(), output.mean_logit(NUM_IDS), output.nll(labels_BS)]
    sum(((value * weight).sum() for value, weight in zip(found, weights)), torch.zeros(())).backward()
    assert own_SBV.grad is not None
    return [*(value.detach() for value in found), own_SBV.grad]


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2, 3])
def test_log_z_and_the_mean_logit_are_those_of_the_whole_vocabulary(ranks: int) -> None:
    expected = scores(0)
    parts = run_ranks(scores, ranks, ranks, preload=PRELOAD)
    for part in parts:
        for value, whole in zip(part[:3], expected):
            torch.testing.assert_close(value, whole)
    torch.testing.assert_close(torch.cat([part[3] for part in parts], -1), expected[3])


def test_log_z_and_the_mean_logit_are_what_their_names_say() -> None:
    torch.manual_seed(0)
    logits_SBV = 100 * torch.randn(3, 2, 6)
    output = Output(logits_SBV)
    log_p_BSV = logits_SBV.log_softmax(-1).transpose(0, 1)
    # exp of a logit of 100 is more than a float holds.
    torch.testing.assert_close(output.log_z(), (logits_SBV.transpose(0, 1) - log_p_BSV)[..., 0])
    torch.testing.assert_close(output.mean_logit(4) - output.log_z(), log_p_BSV[..., :4].mean(-1))
