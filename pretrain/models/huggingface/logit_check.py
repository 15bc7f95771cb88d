"""The gate of every export: the transformers model must give the logits that ours gives.

Shape letters: N sequences, S tokens, V vocabulary without padding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.models.gpt.config import GPTConfig

if TYPE_CHECKING:
    import torch

    Reference = Callable[[GPTConfig, Mapping[str, torch.Tensor], torch.Tensor], torch.Tensor]
    """(model, global tensors, tokens_NS) -> fp32 logits over the padded vocabulary, computed by our own model."""

TOLERANCE = 1e-4
_CHUNK_BYTES = 1 << 30  # logits of both models that are held at once


@dataclass(frozen=True)
class Agreement:
    """How far two models are apart.

    Attributes:
        largest_difference: of two logits, absolute.
        largest_logit: for comparison, absolute.
        sequences: that were compared.
        tokens: in all of them.
    """

    largest_difference: float
    largest_logit: float
    sequences: int
    tokens: int

    def as_dict(self) -> dict[str, Any]:
        """For `export.json`."""
        return asdict(self) | {"tolerance": TOLERANCE}


def token_sequences(model: GPTConfig, text_ids: Sequence[int], count: int, seed: int) -> torch.Tensor:
    """int64 [N, S]: `count` random sequences over the whole vocabulary and, if there is text, one of it, repeated.

    Args:
        model: gives the vocabulary and the length, which is the longest that the model knows.
        text_ids: ids of some text; may be empty.
        count: random sequences.
        seed: decides them.
    """
    import torch

    assert model.vocab_size is not None
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randint(model.vocab_size, (count, model.seq_length), generator=generator)
    if not len(text_ids):
        return rows
    text = torch.tensor(list(text_ids)[: model.seq_length])
    repeated = text.repeat(-(-model.seq_length // len(text)))[None, : model.seq_length]
    return torch.cat([rows, repeated])


def compare(
    model: GPTConfig,
    tensors: Mapping[str, torch.Tensor],
    theirs: Any,
    tokens_NS: torch.Tensor,
    reference: Reference | None = None,
) -> Agreement:
    """Run both models, in fp32 on the CPU.

    Args:
        model: our config.
        tensors: our weights by global name.
        theirs: the transformers model, fp32, in evaluation mode.
        tokens_NS: what they read.
        reference: our model; null: megatron-core's, as it is trained.
    """
    import torch

    ours = reference if reference is not None else _our_model()
    per_sequence = 2 * 4 * tokens_NS.shape[1] * model.padded_vocab_size
    largest_difference = largest_logit = 0.0
    for rows in tokens_NS.split(max(1, _CHUNK_BYTES // per_sequence)):
        with torch.no_grad():
            found = theirs(rows, use_cache=False).logits
        expected = ours(model, tensors, rows)[..., : model.vocab_size]
        difference = (found - expected).abs().max()
        # A NaN on either side must not pass as "not greater".
        largest_difference = max(largest_difference, float(torch.nan_to_num(difference, nan=float("inf"))))
        largest_logit = max(largest_logit, float(expected.abs().max()))
    return Agreement(largest_difference, largest_logit, tokens_NS.shape[0], tokens_NS.numel())


def _our_model() -> Reference:
    from pretrain.engine.single import reference_logits

    return reference_logits


def require(agreement: Agreement, checkpoint: Path) -> None:
    """Let an export pass only if the models agree.

    Raises:
        CheckpointError: they do not.
    """
    if not agreement.largest_difference <= TOLERANCE:
        raise CheckpointError(
            f"the exported model's logits differ by {agreement.largest_difference:.3g} from ours"
            f" (largest logit {agreement.largest_logit:.3g}); nothing was written",
            where=checkpoint,
            expected=f"at most {TOLERANCE:g}. Non-finite or very large weights of a diverged run do this; if the run is"
            " healthy, this is a fault of the export: please report it",
        )
