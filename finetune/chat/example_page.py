"""Prepared conversations to look at: each token with its id, what is asked for marked, on a console or as a page."""

from __future__ import annotations

import html
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_prep.corpus import Corpus
from data_prep.tokenizer import Tokenizer, load_tokenizer

if TYPE_CHECKING:
    from rich.text import Text

_STYLE = """\
body { font: 15px/2.3 ui-monospace, monospace; margin: 2em auto; max-width: 60em; padding: 0 1em; }
h1, p { font-family: system-ui, sans-serif; line-height: 1.4; }
.t { border-radius: 3px; padding: 2px 1px; margin: 0 1px; background: #ececec; color: #444;
  display: inline-block; line-height: 1.5; }
.a { background: #bfe8c5; color: #063; }
.s { outline: 1px solid #a6a6a6; }
sub { font-size: 9px; opacity: .75; line-height: 1; }
"""


@dataclass(frozen=True)
class ShownToken:
    """One token of a conversation.

    Attributes:
        id: its number.
        text: how the vocabulary writes it.
        is_label: whether it is asked for.
        is_special: whether it stands for no text.
    """

    id: int
    text: str
    is_label: bool
    is_special: bool


def shown_conversations(corpus: Corpus, count: int) -> list[list[ShownToken]]:
    """The first conversations of a corpus that `instruct` prepared, as the model is trained on them."""
    from pretrain.data.conversations import answer_bounds

    assert corpus.tokenizer_path is not None
    tokenizer = load_tokenizer(corpus.tokenizer_path)
    begins, ends = answer_bounds(corpus)
    is_label = np.zeros(corpus.num_tokens + 1, dtype=np.int64)
    is_label[begins] += 1
    is_label[ends] -= 1
    marked = np.cumsum(is_label).astype(bool)
    shard = corpus.shards[0]
    bounds = shard.document_offsets[: count + 1].tolist()
    is_byte = tokenizer.byte_tokens()

    def shown(place: int) -> ShownToken:
        number = int(shard.tokens[place])
        return _shown(tokenizer, number, is_label=bool(marked[place]), is_byte=bool(is_byte[number]))

    return [[shown(place) for place in range(begin, end)] for begin, end in pairwise(bounds)]


def _shown(tokenizer: Tokenizer, number: int, *, is_label: bool, is_byte: bool) -> ShownToken:
    text = tokenizer.piece(number)
    if is_byte and "\ufffd" not in (written := tokenizer.decode([number])):
        text = written
    return ShownToken(number, text, is_label, tokenizer.is_special(number))


def as_text(tokens: list[ShownToken]) -> Text:
    """For a console: labels in green, what is only read in grey, a token and its id each."""
    from rich.text import Text

    text = Text()
    for token in tokens:
        style = "bold green" if token.is_label else "bright_black"
        text.append(_visible(token.text), style=f"{style} reverse" if token.is_special else style)
        text.append(f"{token.id}{'*' if token.is_label else ''} ", style="dim")
        if "\n" in token.text:
            text.append("\n")
    return text


def write_page(conversations: list[list[ShownToken]], path: Path, title: str) -> None:
    """An HTML page of its own, without scripts."""
    path.write_text("\n".join(_page(conversations, title)) + "\n", "utf-8")


def _page(conversations: list[list[ShownToken]], title: str) -> Iterator[str]:
    yield f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
    yield f"<style>\n{_STYLE}</style>\n<h1>{html.escape(title)}</h1>"
    yield (
        "<p><span class='t a'>asked for</span> labels of the loss; <span class='t'>read</span> masked;"
        " <span class='t s'>outlined</span> special tokens. The small number is the id.</p>"
    )
    for number, tokens in enumerate(conversations):
        labels = sum(token.is_label for token in tokens)
        yield f"<p>Conversation {number}: {len(tokens)} tokens, {labels} labels</p>\n<div>"
        yield "".join(_span(token) for token in tokens)
        yield "</div>"


def _span(token: ShownToken) -> str:
    kinds = f"t{' a' if token.is_label else ''}{' s' if token.is_special else ''}"
    tip = f"id {token.id}, {'label' if token.is_label else 'masked'}"
    line = "<br>" * token.text.count("\n")
    return f"<span class='{kinds}' title='{tip}'>{html.escape(_visible(token.text))}<sub>{token.id}</sub></span>{line}"


def _visible(text: str) -> str:
    return text.replace(" ", "\u00b7").replace("\n", "\u21b5").replace("\t", "\u2192")
