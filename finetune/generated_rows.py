"""A batch of answers while they are written: what each row draws, where it ends, what is shown of it.

Shape letters: B rows, S tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from finetune.sampling import Generated, Sampling
from finetune.text_codec import TextCodec, decode_after

if TYPE_CHECKING:
    import torch

    from finetune.causal_model import CausalModel

_REPLACEMENT = "\ufffd"


@dataclass
class Row:
    """One answer.

    Attributes:
        number: of its prompt.
        sample: of the answers to that prompt.
        prompt: the text.
        ids: the prompt's tokens.
        copy: how many rows before it have the same ids.
        new: tokens after them.
        text: what these write, as far as it is known.
        ended_by: what ended it; None while it goes on.
    """

    number: int
    sample: int
    prompt: str
    ids: list[int]
    copy: int
    new: list[int] = field(default_factory=list)
    text: str = ""
    ended_by: Any = None

    def generated(self, context: int | None) -> Generated:
        """The finished answer."""
        full = context if self.ended_by == "context" else None
        return Generated(self.prompt, self.text, len(self.new), self.ended_by, self.number, self.sample, full)


class RowNoise:
    """Adds to the logits of each row what chance says of its next token: the largest sum is an exact sample.

    This is the Gumbel-max trick (Maddison et al. 2014, A* Sampling). A row's numbers depend on the seed, on its prompt
    and on which copy of it it is, never on the rows beside it; and where rounding differs between batches, only tokens
    whose sums are equal to within that rounding could change places.
    """

    def __init__(self, rows: Sequence[Row], seed: int) -> None:
        self.generators = [np.random.default_rng(_key(row, seed)) for row in rows]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Log-probabilities or logits [B, V] -> sums with noise, float64 [B, V]."""
        import torch

        noise_BV = np.stack([generator.gumbel(size=scores.shape[1]) for generator in self.generators])
        return scores.double() + torch.from_numpy(noise_BV).to(scores.device)


class TextStream:
    """Hands on a growing text in pieces, and keeps back what may still change.

    Args:
        show: takes the pieces.
        stop: texts before which it may be cut.
    """

    def __init__(self, show: Callable[[str], None], stop: Sequence[str]) -> None:
        self.show, self.stop = show, stop
        self.shown = 0

    def update(self, text: str, *, is_final: bool) -> None:
        """Show what is new in `text` and certain."""
        end = len(text) if is_final else self._certain(text)
        if end > self.shown:
            self.show(text[self.shown : end])
            self.shown = end

    def _certain(self, text: str) -> int:
        # The last character may be half written, and the last letters may begin a text that ends the answer.
        end = len(text.rstrip(_REPLACEMENT))
        kept = (len(stop) - 1 for stop in self.stop)
        for size in range(min(max(kept, default=0), end), 0, -1):
            if any(stop.startswith(text[end - size : end]) for stop in self.stop):
                return end - size
        return end


class RowEnds:
    """Follows the rows as their tokens are made, and says which are finished."""

    def __init__(
        self,
        rows: Sequence[Row],
        codec: TextCodec,
        sampling: Sampling,
        context: int | None,
        stream: TextStream | None,
    ) -> None:
        self.rows, self.codec, self.sampling, self.context, self.stream = rows, codec, sampling, context, stream

    def limit(self, row: Row) -> int:
        """Tokens that a row may have."""
        wanted = self.sampling.max_new_tokens
        return wanted if self.context is None else min(wanted, self.context - len(row.ids))

    def __call__(self, input_ids: torch.Tensor, scores: Any, **others: Any) -> torch.Tensor:
        """Whether each row is finished, bool [B]; `input_ids` [B, S] has one token more than the time before."""
        import torch

        for row, token in zip(self.rows, input_ids[:, -1].tolist()):
            if row.ended_by is None:
                self._take(row, token)
        return torch.tensor([row.ended_by is not None for row in self.rows], device=input_ids.device)

    def _take(self, row: Row, token: int) -> None:
        row.new.append(token)
        if token == self.codec.end_of_document:
            row.ended_by = "end_of_document"
        elif len(row.new) == self.limit(row):
            row.ended_by = "max_new_tokens" if len(row.new) == self.sampling.max_new_tokens else "context"
        if row.ended_by is None and not self.sampling.stop and self.stream is None:
            return
        row.text = decode_after(self.codec, row.ids, row.new)
        found = [at for at in (row.text.find(stop) for stop in self.sampling.stop) if at >= 0]
        if found:
            row.text, row.ended_by = row.text[: min(found)], "stop"
        if self.stream is not None:
            is_final = row.ended_by is not None
            self.stream.update(row.text if is_final else self._settled(row), is_final=is_final)

    def _settled(self, row: Row) -> str:
        """The text without the bytes at its end, whose letters are not known yet."""
        count = len(row.new)
        while count and self.codec.may_change(row.new[count - 1]):
            count -= 1
        return row.text if count == len(row.new) else decode_after(self.codec, row.ids, row.new[:count])


def write_batch(
    network: Any, causal: CausalModel, rows: Sequence[Row], sampling: Sampling, stream: TextStream | None
) -> None:
    """Write the answers of some rows together, into the rows.

    Args:
        network: transformers' causal language model, where it is to compute.
        causal: what it was read as.
        rows: without new tokens.
        sampling: how tokens are chosen.
        stream: shows the text of the first row as it grows; None: nothing is shown.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    codec = causal.codec
    ends = RowEnds(rows, codec, sampling, causal.context, stream)
    spare = [number for number in (codec.pad, codec.end_of_document, 0) if number is not None]
    settings = GenerationConfig(
        do_sample=False,  # the noise of each row makes the largest sum a sample
        max_new_tokens=max(map(ends.limit, rows)),
        eos_token_id=codec.end_of_document,
        pad_token_id=spare[0],
        use_cache=sampling.use_cache,
        suppress_tokens=list(causal.without_text) or None,
    )
    width = max(len(row.ids) for row in rows)
    tokens_BS = torch.full((len(rows), width), spare[0])
    mask_BS = torch.zeros_like(tokens_BS)
    for number, row in enumerate(rows):  # on the left, so that all rows go on at the same place
        tokens_BS[number, width - len(row.ids) :] = torch.tensor(row.ids)
        mask_BS[number, width - len(row.ids) :] = 1
    with torch.no_grad(), quiet_transformers():
        network.generate(
            tokens_BS.to(network.device),
            attention_mask=mask_BS.to(network.device),
            generation_config=settings,
            logits_processor=LogitsProcessorList(_processors(rows, sampling)),
            stopping_criteria=StoppingCriteriaList([ends]),
        )


def _processors(rows: Sequence[Row], sampling: Sampling) -> list[Any]:
    from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    if sampling.is_greedy:
        return []
    found: list[Any] = []
    if sampling.temperature != 1:
        found.append(TemperatureLogitsWarper(float(sampling.temperature)))
    if sampling.top_k:
        found.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        found.append(TopPLogitsWarper(float(sampling.top_p)))
    return [*found, RowNoise(rows, sampling.seed)]


def _key(row: Row, seed: int) -> int:
    content = f"{seed}\0{row.copy}\0{','.join(map(str, row.ids))}"
    return xxhash.xxh3_64_intdigest(content.encode())
