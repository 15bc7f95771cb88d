"""Texts that belong together as numbers; vectors by mean pooling; how well they find each other.

Shape letters: B examples of a micro-batch, R texts, S tokens, H hidden size, N examples of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from finetune import batches

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
_ROWS_AT_ONCE = 1024
"""Texts whose cosines to all others are in memory together."""


@dataclass(frozen=True)
class EmbeddingTexts:
    """Examples as numbers.

    Attributes:
        rows: token ids: the N texts, the N that belong to them, the N that do not if there are such.
        same: a number of each row that equal texts share.
        count: N.
        pad: id of the pad token.
        cut: how many texts were longer than what is read.
    """

    rows: list[list[int]]
    same: list[int]
    count: int
    pad: int
    cut: int

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        sides = range(0, len(self.rows), self.count)
        return [sum(len(self.rows[start + number]) for start in sides) for number in range(self.count)]

    @property
    def weights(self) -> list[float]:
        """Each example counts once."""
        return [1.0] * self.count


def vectors(model: Any, part: EmbeddingTexts, rows: Sequence[int], device: torch.device) -> torch.Tensor:
    """Vectors of length 1 of some rows, fp32 [R, H]: the mean of the last hidden states of a text's tokens."""
    import torch

    tokens_RS, mask_RS = batches.collate([part.rows[number] for number in rows], part.pad)
    mask_RS = mask_RS.to(device)
    states_RSH = model(input_ids=tokens_RS.to(device), attention_mask=mask_RS).last_hidden_state.float()
    sums_RH = (states_RSH * mask_RS[..., None]).sum(1)
    return torch.nn.functional.normalize(sums_RH / mask_RS.sum(1, keepdim=True), dim=-1)


def contrastive_losses(
    vectors_RH: torch.Tensor, same: Sequence[int], count: int, temperature: float, repeated: Sequence[bool] = ()
) -> torch.Tensor:
    """Cross-entropy of finding the right text among all candidates (van den Oord et al. 2018), fp32 [B].

    Args:
        vectors_RH: of B texts, of the B that belong to them, of B others or none.
        same: a number of each row that equal texts share: a candidate that is the text itself, or equal to the right
            one, is no wrong one.
        count: B.
        temperature: divides the cosines.
        repeated: of each of the B, whether it only fills the place of an example: then it is nobody's wrong answer.
    """
    import torch

    cosines = vectors_RH[:count] @ vectors_RH[count:].T / temperature
    numbers = torch.tensor(list(same), device=cosines.device)
    candidates, places = numbers[count:], torch.arange(count, device=cosines.device)
    known = (candidates[None] == numbers[:count, None]) | (candidates[None] == candidates[:count, None])
    if any(repeated):
        known |= torch.tensor([*repeated] * (len(candidates) // count), device=cosines.device)[None]
    known[places, places] = False
    return torch.nn.functional.cross_entropy(cosines.masked_fill(known, -torch.inf), places, reduction="none")


def retrieval_figures(texts: Floats, right: Floats, same: Sequence[int], temperature: float) -> dict[str, Any]:
    """How well each text finds the one that belongs to it among those of all examples of a part.

    Args:
        texts: vectors of length 1, float32 [N, H].
        right: those of the texts that belong to them, [N, H].
        same: a number of each of the 2 N texts that equal ones share.
        temperature: of the loss.

    Returns:
        mean reciprocal rank, share that is found first and among the first ten, loss, candidates.
    """
    count = len(texts)
    own, candidates = np.array(same[:count]), np.array(same[count : 2 * count])
    ranks, nats = np.zeros(count), np.zeros(count)
    for start in range(0, count, _ROWS_AT_ONCE):
        chosen = np.arange(start, min(start + _ROWS_AT_ONCE, count))
        cosines = (texts[chosen] @ right.T).astype(np.float64)
        known = (candidates[None] == own[chosen, None]) | (candidates[None] == candidates[chosen, None])
        known[np.arange(len(chosen)), chosen] = False
        cosines[known] = -np.inf
        found = cosines[np.arange(len(chosen)), chosen]
        # Of equal cosines the wrong one comes first: nothing is found by giving all texts the same vector.
        ranks[chosen] = (cosines >= found[:, None]).sum(1)
        scaled = (cosines - cosines.max(1, keepdims=True)) / temperature
        nats[chosen] = np.log(np.exp(scaled).sum(1)) - (found - cosines.max(1)) / temperature
    return {
        "mrr": float((1 / ranks).mean()),
        "recall_at_1": float((ranks == 1).mean()),
        "recall_at_10": float((ranks <= 10).mean()),
        "loss": float(nats.mean()),
        "candidates": count,
    }
