"""The losses of preference learning, from log-probabilities alone.

Shape letters: B examples. `[B, 2]` is, of pairs, the chosen and the rejected completion; of KTO, the completion and a
completion of another prompt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.tasks.prefer_config import Method, PreferConfig

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Scores:
    """What is known of some examples.

    Attributes:
        policy_B2: log-probabilities of whole completions by the model that is trained.
        reference_B2: the same by the model that it started from; zeros where no reference is needed.
        tokens_B2: of each completion.
        desirable_B: of KTO: whether the completion is good.
        repeated_B: of KTO: whether the example only fills the place of one, and counts in no mean; None: none does.
    """

    policy_B2: torch.Tensor
    reference_B2: torch.Tensor
    tokens_B2: torch.Tensor
    desirable_B: torch.Tensor | None = None
    repeated_B: torch.Tensor | None = None


def preference_losses(scores: Scores, config: PreferConfig) -> torch.Tensor:
    """The loss of each example, fp32 [B].

    Args:
        scores: of examples that are together in a micro-batch, over which KTO takes its mean divergence.
        config: says the method and its numbers.
    """
    losses = {"dpo": _dpo, "ipo": _ipo, "orpo": _orpo, "kto": _kto}
    return losses[config.loss](scores, config)


def rewards(scores: Scores, method: Method, beta: float) -> torch.Tensor:
    """What a completion is worth to the model, [B, 2]: beta times its log-probability ratio to the reference.

    ORPO has no reference: beta times the mean log-probability of a token.
    """
    if method == "orpo":
        return beta * scores.policy_B2 / scores.tokens_B2
    return beta * (scores.policy_B2 - scores.reference_B2)


def mean_divergence(scores: Scores) -> torch.Tensor:
    """KTO's z0: the divergence from the reference, estimated on completions of other prompts; 0 or more, detached."""
    ratios_B = (scores.policy_B2 - scores.reference_B2)[:, 1]
    if scores.repeated_B is not None:
        ratios_B = ratios_B[~scores.repeated_B]
    return ratios_B.mean().clamp(min=0).detach()


def _dpo(scores: Scores, config: PreferConfig) -> torch.Tensor:
    """Rafailov et al. 2023, equation 7; with label smoothing as in Mitchell 2023 (conservative DPO)."""
    from torch.nn.functional import logsigmoid

    rewards_B2 = rewards(scores, "dpo", config.beta)
    margin_B = rewards_B2[:, 0] - rewards_B2[:, 1]
    share = config.label_smoothing
    return -(1 - share) * logsigmoid(margin_B) - share * logsigmoid(-margin_B)


def _ipo(scores: Scores, config: PreferConfig) -> torch.Tensor:
    """Azar et al. 2023, equation 17, on means per token, so that long completions weigh no more than short ones."""
    ratios_B2 = (scores.policy_B2 - scores.reference_B2) / scores.tokens_B2
    return (ratios_B2[:, 0] - ratios_B2[:, 1] - 1 / (2 * config.beta)) ** 2


def _orpo(scores: Scores, config: PreferConfig) -> torch.Tensor:
    """Hong et al. 2024, equations 6 and 7, on means per token: the chosen one's, and the ratio of the odds."""
    import torch
    from torch.nn.functional import logsigmoid

    means_B2 = scores.policy_B2 / scores.tokens_B2
    # A token that is certain has infinite odds.
    log_odds_B2 = means_B2 - torch.log(-torch.expm1(means_B2.clamp(max=-1e-7)))
    return -means_B2[:, 0] - config.beta * logsigmoid(log_odds_B2[:, 0] - log_odds_B2[:, 1])


def _kto(scores: Scores, config: PreferConfig) -> torch.Tensor:
    """Ethayarajh et al. 2024, equation 8."""
    import torch

    assert scores.desirable_B is not None
    ratio_B = (scores.policy_B2 - scores.reference_B2)[:, 0]
    margin_B = config.beta * (ratio_B - mean_divergence(scores))
    good_B = config.desirable_weight * (1 - torch.sigmoid(margin_B))
    bad_B = config.undesirable_weight * (1 - torch.sigmoid(-margin_B))
    return torch.where(scores.desirable_B, good_B, bad_B)
