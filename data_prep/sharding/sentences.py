"""Documents -> sentences, cut so that they join to the document again."""

from __future__ import annotations

import itertools

from configs.errors import ConfigError
from configs.extras import install_command


def check_sentences() -> None:
    """Look for the library that finds sentences.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import blingfire  # noqa: F401
    except ImportError:
        raise ConfigError(
            "sentences = true needs the package blingfire", expected=install_command("sentences")
        ) from None


def split_sentences(text: str) -> list[str]:
    """The sentences of `text`, each with the white space after it: joined they are `text`."""
    import blingfire

    _, spans = blingfire.text_to_sentences_and_offsets(text)
    starts = [start for start, _ in spans[1:]]
    bounds = [0, *starts, len(text)]
    return [text[begin:end] for begin, end in itertools.pairwise(bounds) if begin < end]
