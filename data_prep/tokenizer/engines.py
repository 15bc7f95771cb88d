"""What turns texts into ids: one call of a library for many texts, nothing around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs.errors import DataError, UserError

EngineName = Literal["auto", "reference"]
"""`auto`: the fast way to ids where they are shown to be equal; `reference`: the vocabulary's own library alone."""


class Engine(ABC):
    """A library's encoder for one vocabulary, in one thread.

    Attributes:
        name: the library.
    """

    name: str

    @abstractmethod
    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

    def explain(self) -> str:
        """Who makes the ids and why, for the user to read."""
        return f"using {self.name}"

    def let_go_if_unused(self) -> int:
        """Hold less memory if nothing was encoded since the last call of this; by how many bytes it is less."""
        return 0

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Ids of all texts, one after the other, int32 [tokens], and how many each has, int64 [texts].

        Args:
            texts: what to encode.
            append: an id to put after each text.
        """
        return flatten(self.lists(texts), append)


class SentencePieceEngine(Engine):
    """The `sentencepiece` library."""

    name = "sentencepiece"

    def __init__(self, processor: Any) -> None:
        self._encode = processor.encode

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        ids: list[list[int]] = self._encode(list(texts), num_threads=1)
        return ids

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.flat`; the library's own arrays, no id ever becomes a Python object."""
        return join(self._encode(list(texts), num_threads=1, return_type="numpy"), append)


class HuggingFaceEngine(Engine):
    """The `tokenizers` library."""

    name = "tokenizers"

    def __init__(self, pipeline: Any) -> None:
        self._encode = pipeline.encode_batch_fast

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [encoding.ids for encoding in self._encode(list(texts), add_special_tokens=False)]


class TiktokenEngine(Engine):
    """The `tiktoken` library."""

    name = "tiktoken"

    def __init__(self, encoding: Any) -> None:
        self._encode = encoding.encode_to_numpy

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return [ids.tolist() for ids in self._arrays(texts)]

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.flat`; the library's own arrays, no id ever becomes a Python object."""
        return join(self._arrays(texts), append)

    def _arrays(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self._encode(text, disallowed_special=()).view(np.int32) for text in texts]


class Slow(Engine):
    """The reference library, for a vocabulary that nothing faster gives the same ids of.

    Args:
        reference: the library.
        reason: why nothing does.
    """

    def __init__(self, reference: Engine, reason: str) -> None:
        self.name = reference.name
        self._reference, self._reason = reference, reason

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return self._reference.lists(texts)

    def flat(self, texts: Sequence[str], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """As `Engine.flat`."""
        return self._reference.flat(texts, append)

    def explain(self) -> str:
        """As `Engine.explain`."""
        return f"using {self.name} alone: {self._reason}"


class EngineError(DataError):
    """A vocabulary or text that a library cannot use."""


@contextmanager
def explaining(path: Path, library: str) -> Iterator[None]:
    """Turn what a library raises over a vocabulary or a text into one message about the tokenizer at `path`.

    Raises:
        EngineError: in place of the library's exceptions, a panic of its Rust code included.
    """
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        message = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(f"{library} cannot use it: {message}", where=path) from None


def flatten(lists: Sequence[list[int]], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Lists of ids as `Engine.flat` gives them; with `append`, the lists are lengthened in place."""
    if append is not None:
        for ids in lists:
            ids.append(append)
    lengths = np.fromiter(map(len, lists), np.int64, len(lists))
    return np.fromiter(chain.from_iterable(lists), np.int32, int(lengths.sum())), lengths


def join(arrays: Sequence[np.ndarray], append: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of ids as `Engine.flat` gives them."""
    lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
    if append is not None and len(arrays):
        end = np.array([append], dtype=np.int32)
        closed: list[np.ndarray] = [end] * (2 * len(arrays))
        closed[::2] = arrays
        arrays = closed
        lengths += 1
    return np.concatenate(arrays).astype(np.int32, copy=False) if len(arrays) else np.empty(0, np.int32), lengths
