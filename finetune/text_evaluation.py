"""How well a causal language model predicts texts: perplexity and bits per byte, long texts by a sliding window.

Shape letters: B windows of a batch, S tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import batches
from pretrain.objectives.figures import bits_per_byte, perplexity

if TYPE_CHECKING:
    import torch

    from finetune.causal_model import CausalModel
    from finetune.text_codec import TextCodec

_WINDOWS_AT_HAND = 256
"""Windows that are sorted by length together."""


@dataclass(frozen=True)
class TextWindow:
    """A piece of a text that is read at once.

    Attributes:
        ids: its tokens.
        scored: how many of the last ones count; those before are context.
    """

    ids: list[int]
    scored: int


@dataclass
class TextFigures:
    """What was found of the texts of a file.

    Attributes:
        documents: that were read.
        bytes: of their text in UTF-8.
        tokens: of their text.
        scored: tokens that were predicted: all, or all but the first of each where nothing stands before it.
        nats: of the scored tokens.
    """

    documents: int = 0
    bytes: int = 0
    tokens: int = 0
    scored: int = 0
    nats: float = 0.0

    def figures(self) -> dict[str, Any]:
        """For people and files; `loss` is in nats per scored token."""
        counts = {"documents": self.documents, "bytes": self.bytes, "tokens": self.tokens, "scored_tokens": self.scored}
        loss = self.nats / self.scored
        return {
            "loss": loss,
            "perplexity": perplexity(loss),
            "bits_per_byte": bits_per_byte(self.nats, self.bytes),
            **counts,
        }


def windows(row: Sequence[int], before: int | None, context: int | None, stride: int) -> Iterator[TextWindow]:
    """The windows of a text, in which each of its tokens counts once.

    The first one holds as much as fits; each later one has `stride` new tokens behind as much context as fits.

    Args:
        row: token ids of the text.
        before: what pretraining saw before a document; None: nothing, so that the first token cannot be predicted.
        context: tokens that the model can read at once; None: any number.
        stride: new tokens of a window, less than the context.
    """
    ids = [before, *row] if before is not None else list(row)
    length = len(ids) if context is None else context
    # A window's last token is only predicted: it need not be read, so one more fits.
    end = min(len(ids), length + 1)
    yield TextWindow(ids[:end], end - 1)
    while end < len(ids):
        following = min(end + stride, len(ids))
        yield TextWindow(ids[max(0, following - length - 1) : following], following - end)
        end = following


def score_texts(causal: CausalModel, texts: Iterator[str], stride: int | None, batch_size: int) -> TextFigures:
    """Predict all tokens of some texts.

    Args:
        causal: the model, on its device.
        texts: each a document.
        stride: new tokens of each window but a text's first; None: half of the context.
        batch_size: windows at a time.
    """
    found = TextFigures()
    step = stride if stride is not None else max(1, (causal.context or 2) // 2)
    waiting: list[TextWindow] = []
    for text in texts:
        row = causal.codec.encode_batch([text])[0]
        found.documents += 1
        found.bytes += len(text.encode("utf-8", "surrogatepass"))
        found.tokens += len(row)
        waiting += [w for w in windows(row, causal.codec.document_start, causal.context, step) if w.scored > 0]
        if len(waiting) >= _WINDOWS_AT_HAND:
            _score(causal.network, waiting, batch_size, found)
            waiting = []
    _score(causal.network, waiting, batch_size, found)
    return found


def token_losses(network: Any, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Nats of each token of some rows but the first, float32 on the CPU, by one forward pass.

    Args:
        network: transformers' causal language model in evaluation mode.
        rows: token ids; the last of each is predicted and not read.
    """
    import torch

    tokens_BS, mask_BS = batches.collate([row[:-1] for row in rows], 0)
    with torch.no_grad():
        output = network(input_ids=tokens_BS.to(network.device), attention_mask=mask_BS.to(network.device))
    found = []
    for row, logits_SV in zip(rows, output.logits):
        labels = torch.tensor(row[1:], device=network.device)
        losses = torch.nn.functional.cross_entropy(logits_SV[: len(row) - 1].float(), labels, reduction="none")
        found.append(losses.cpu())
    return found


def first_token(codec: TextCodec) -> int | None:
    """What stands before a text of its own: what a plain call puts there, else what stood before documents."""
    return codec.begin_of_text if codec.begin_of_text is not None else codec.document_start


def _score(network: Any, waiting: Sequence[TextWindow], batch_size: int, found: TextFigures) -> None:
    for numbers in batches.by_length([len(window.ids) for window in waiting], batch_size):
        losses = token_losses(network, [waiting[number].ids for number in numbers])
        for number, nats in zip(numbers, losses):
            scored = waiting[number].scored
            found.nats += float(nats[len(nats) - scored :].double().sum())
            found.scored += scored
