"""A byte-level tokenizer in little memory, from what another process showed of it: for workers that only make ids.

The process that plans the work loads the vocabulary with its own library and shows that gigatoken gives the same ids.
What it found is kept in a few files, so that a worker begins with gigatoken alone. The library is loaded when a text
needs it, the rest of the tokenizer when something else than ids is asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from configs.memory import give_back_freed_memory, host_memory_bytes
from data_prep.storage.publishing import staged_file
from data_prep.tokenizer.engines import Engine, HuggingFaceEngine
from data_prep.tokenizer.fast.byte_level import ByteLevelEngine, ShownVocabulary, gigatoken_library
from data_prep.tokenizer.huggingface_kind import HuggingFaceTokenizer, load_pipeline
from data_prep.tokenizer.interface import Tokenizer
from data_prep.tokenizer.loading import load_tokenizer
from data_prep.tokenizer.roles import ROLES, ROLES_FILE, read_description

_SHOWN, _GIGATOKEN, _LIBRARY = "vocabulary.shown", "vocabulary.gigatoken", "vocabulary.library"


def keep_light(tokenizer: Tokenizer, directory: Path) -> None:
    """Write what `light_tokenizer` reads into a directory; nothing for tokenizers that are small or slow as they are.

    Raises:
        OSError: if it cannot be written.
    """
    parts = tokenizer.fast_parts() if isinstance(tokenizer, HuggingFaceTokenizer) else None
    if parts is None:
        return
    engine, bare, library = parts
    ids = {tokenizer.role(role) for role in ROLES} - {None}
    content = {
        "made_by": _made_by(),
        "fingerprint": tokenizer.fingerprint,
        "vocab_size": tokenizer.vocab_size,
        "special": {str(token): tokenizer.is_special(token) for token in ids if token is not None},
        "found_in_text": engine.found_in_text,
        "is_normalized": engine.is_normalized,
        "shown": asdict(shown) if (shown := engine.shown()) else None,
    }
    for name, data in ((_GIGATOKEN, bare.encode()), (_LIBRARY, library.encode()), (_SHOWN, orjson.dumps(content))):
        with staged_file(directory / name) as temporary:
            temporary.write_bytes(data)


def light_tokenizer(tokenizer_dir: Path, directory: Path) -> Tokenizer | None:
    """The tokenizer that lies in `tokenizer_dir`, by what `keep_light` wrote into `directory`.

    None: nothing was, or it is of other versions of the libraries or of another tokenizer.
    """
    try:
        content = orjson.loads((directory / _SHOWN).read_bytes())
        is_whole = (directory / _GIGATOKEN).is_file() and (directory / _LIBRARY).is_file()
    except (OSError, orjson.JSONDecodeError):
        return None
    library = gigatoken_library()
    description = read_description(tokenizer_dir / ROLES_FILE)
    if not is_whole or library is None or description is None:
        return None
    if content["made_by"] != _made_by() or content["fingerprint"] != description.fingerprint:
        return None
    return LightTokenizer(tokenizer_dir, directory, content)


class LightTokenizer(Tokenizer):
    """A tokenizer of Hugging Face's library of which only the fast way to ids is loaded; `light_tokenizer` makes it."""

    kind = "huggingface"

    def __init__(self, tokenizer_dir: Path, directory: Path, content: dict[str, Any]) -> None:
        self._tokenizer_dir = tokenizer_dir
        self.vocab_size = content["vocab_size"]
        self._special_ids: dict[str, bool] = content["special"]
        description = read_description(tokenizer_dir / ROLES_FILE)
        assert description is not None
        self._directory, self._content = directory, content
        super().__init__(tokenizer_dir / ROLES_FILE, b"", description, "auto")
        self.fingerprint = content["fingerprint"]

    @classmethod
    def read(cls, model_path: Path, description: object, engine: str) -> LightTokenizer:
        """Nothing is read from a vocabulary file: `light_tokenizer` is how one is made.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"{model_path} is read by load_tokenizer")

    def is_special(self, token: int) -> bool:
        """As `Tokenizer.is_special`."""
        known = self._special_ids.get(str(int(token)))
        return self._whole.is_special(token) if known is None else known

    def decode(self, ids: Iterable[int]) -> str:
        """As `Tokenizer.decode`."""
        return self._whole.decode(ids)

    def piece(self, token: int) -> str:
        """As `Tokenizer.piece`."""
        return self._whole.piece(token)

    def find(self, spelling: str) -> int | None:
        """As `Tokenizer.find`."""
        return self._whole.find(spelling)

    def token_bytes(self) -> np.ndarray:
        """As `Tokenizer.token_bytes`."""
        return self._whole.token_bytes()

    def byte_tokens(self) -> np.ndarray:
        """As `Tokenizer.byte_tokens`."""
        return self._whole.byte_tokens()

    def word_starts(self) -> np.ndarray:
        """As `Tokenizer.word_starts`."""
        return self._whole.word_starts()

    def copy_to(self, directory: Path) -> None:
        """As `Tokenizer.copy_to`."""
        self._whole.copy_to(directory)

    @cached_property
    def _whole(self) -> Tokenizer:
        return load_tokenizer(self._tokenizer_dir)

    def _reference(self) -> Engine:
        return _LaterLibrary(self._directory / _LIBRARY, lambda: self._engine.make_room())  # type: ignore[attr-defined]

    def _fast(self, reference: Engine) -> Engine:
        library, vocabulary = gigatoken_library(), self._directory / _GIGATOKEN
        found = self._content["shown"]
        shown = ShownVocabulary(0, [tuple(run) for run in found["characters"]], found["is_cut_before_spaces"])
        return ByteLevelEngine(
            reference,
            [lambda: library.load_hf_json(vocabulary.read_bytes())],
            list,
            (),
            self._content["found_in_text"],
            self._content["is_normalized"],
            shown,
        )


class _LaterLibrary(Engine):
    """The `tokenizers` library, loaded for the first text that needs it.

    Args:
        vocabulary: the `tokenizer.json` to load.
        make_room: called before it is loaded.
    """

    name = "tokenizers"

    def __init__(self, vocabulary: Path, make_room: Callable[[], None]) -> None:
        self._vocabulary, self._make_room = vocabulary, make_room
        self._loaded: Engine | None = None
        self._is_used = False

    def lists(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        self._is_used = True
        if self._loaded is None:
            self._make_room()
            self._loaded = HuggingFaceEngine(load_pipeline(self._vocabulary, self._vocabulary.read_bytes()))
            give_back_freed_memory()
        return self._loaded.lists(texts)

    def let_go_if_unused(self) -> int:
        """As `Engine.let_go_if_unused`: what needs the library stands in a few texts of many."""
        was_used, self._is_used = self._is_used, False
        if was_used or self._loaded is None:
            return 0
        before_bytes = host_memory_bytes()
        self._loaded = None
        give_back_freed_memory()
        return max(0, before_bytes - host_memory_bytes())


def _made_by() -> dict[str, str]:
    """Versions of what decides which ids a text gets."""
    libraries = {name: version(name) for name in ("gigatoken", "tokenizers")}
    return libraries | {"unicode": unicodedata.unidata_version}
