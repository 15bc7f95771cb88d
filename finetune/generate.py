"""Prompts -> text, several at a time, with a model that predicts the next token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import DataError
from finetune.sampling import Generated, Sampling
from finetune.text_codec import TextCodec

if TYPE_CHECKING:
    from finetune.generated_rows import Row

_BATCHES_PER_WINDOW = 8
"""Batches whose rows are sorted by length together: less padding, and answers still come in order before the end."""


def generate(
    model_dir: Path, prompts: Sequence[str], sampling: Sampling, stream: Callable[[str, str], None] | None = None
) -> Iterator[Generated]:
    """Yield the answers to each prompt, in order.

    Args:
        model_dir: a pretraining run, one checkpoint of it, or a Hugging Face causal language model with safetensors.
        prompts: at least one.
        sampling: how tokens are chosen.
        stream: takes a prompt and a piece of the answer to it, as it is made; one answer is made at a time then.

    Raises:
        UserError: not such a directory, an empty prompt where none may be, a prompt that fills the whole context.
    """
    sampling.check()
    import torch

    from finetune.causal_model import read_causal
    from finetune.generated_rows import Row, TextStream, write_batch

    causal = read_causal(model_dir)
    seen: Counter[tuple[int, ...]] = Counter()
    rows: list[Row] = []
    for number, prompt in enumerate(prompts):
        ids = _encode(causal.codec, prompt, sampling, causal.context, model_dir)
        for sample in range(sampling.samples):
            rows.append(Row(number, sample, prompt, ids, seen[tuple(ids)]))
            seen[tuple(ids)] += 1
    network = causal.network.to("cuda" if torch.cuda.is_available() else "cpu")
    if stream is not None:
        for row in rows:
            write_batch(network, causal, [row], sampling, TextStream(partial(stream, row.prompt), sampling.stop))
            yield row.generated(causal.context)
        return
    window = sampling.batch_size * _BATCHES_PER_WINDOW
    for start in range(0, len(rows), window):
        here = rows[start : start + window]
        for batch in _batches(here, sampling, causal.context):
            write_batch(network, causal, batch, sampling, None)
        yield from (row.generated(causal.context) for row in here)


def _batches(rows: Sequence[Row], sampling: Sampling, context: int | None) -> Iterator[list[Row]]:
    """Rows of similar length, as many as are written at a time.

    All rows of a batch are padded and computed until its last one ends: none may be carried past the context by a
    shorter one, since learned positions end there.
    """
    batch: list[Row] = []
    for row in sorted(rows, key=lambda row: len(row.ids)):
        if batch and (len(batch) == sampling.batch_size or not _fits(row, batch[0], sampling, context)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _fits(row: Row, shortest: Row, sampling: Sampling, context: int | None) -> bool:
    if context is None:
        return True
    return len(row.ids) + min(sampling.max_new_tokens, context - len(shortest.ids)) <= context


def _encode(codec: TextCodec, prompt: str, sampling: Sampling, context: int | None, model_dir: Path) -> list[int]:
    ids = codec.encode_batch([prompt])[0]
    # Nothing to go on from: what stands before the first word of a document is the end of the one before.
    if sampling.at_document_start or not (ids or codec.begin_of_text is not None):
        if codec.document_start is None:
            raise DataError("has no token that begins documents, so a prompt cannot be empty", where=model_dir)
        ids = [codec.document_start, *ids]
    elif codec.begin_of_text is not None:
        ids = [codec.begin_of_text, *ids]  # as a plain call of the exported tokenizer
    if context is not None and len(ids) >= context:
        raise DataError(
            f"a prompt has {len(ids)} tokens ({prompt[:40]!r}...)",
            where="--prompt",
            expected=f"at most {context - 1}: the model's context is {context} tokens",
        )
    return ids
