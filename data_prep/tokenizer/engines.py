"""What turns texts into ids: one call of a library for many texts, nothing around it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from configs.errors import DataError, MachineError, UserError
from configs.extras import install_command

EngineName = Literal["reference", "kitoken"]


class Engine(ABC):
    """A library's encoder for one vocabulary, in one thread.

    Attributes:
        name: the library.
    """

    name: str

    @abstractmethod
    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""

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


class KitokenEngine(Engine):
    """The `kitoken` library, which reads the vocabulary files of the other three."""

    name = "kitoken"

    def __init__(self, kitoken: Any) -> None:
        self._encode = kitoken.encode_all

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        ids: list[list[int]] = self._encode(texts if isinstance(texts, list) else list(texts))
        return ids


def load_kitoken(kind: str, vocabulary: bytes, path: Path, config: Mapping[str, Any] | None = None) -> KitokenEngine:
    """The `kitoken` engine of a vocabulary file.

    Args:
        kind: of `VOCABULARY_FILES`.
        vocabulary: contents of the file.
        path: where they are from.
        config: what is to replace parts of its config.

    Raises:
        MachineError: if kitoken is not installed.
        EngineError: if it cannot read this vocabulary.
    """
    try:
        from kitoken import Kitoken
    except ImportError:
        raise MachineError(
            "the fast engine is not installed",
            where="kitoken",
            expected=f"{install_command('fast')}, or the reference engine",
        ) from None
    readers: dict[str, Callable[[bytes], Any]] = {
        "sentencepiece": Kitoken.from_sentencepiece,
        "huggingface": Kitoken.from_tokenizers,
        "tiktoken": Kitoken.from_tiktoken,
    }
    with explaining(path, "kitoken"):
        kitoken = readers[kind](vocabulary)
        if config is not None:
            kitoken.set_config(kitoken.config() | config)
    return KitokenEngine(kitoken)


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
