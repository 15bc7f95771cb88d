"""Attributions to look at: each token coloured by what it adds, as an HTML page of its own, without scripts."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence

from finetune.attribution.gradients import Attribution, TokenScore

LARGE_SHARE = 0.05
"""Share of `logit - baseline` above which the delta is marked."""
_STYLE = """\
body { font: 16px/1.9 system-ui, sans-serif; margin: 2em auto; max-width: 60em; padding: 0 1em; }
h1, h2 { line-height: 1.3; } h2 { font-size: 1.05em; margin: 2em 0 .2em; }
.x { white-space: pre-wrap; overflow-wrap: anywhere; } .x span { border-radius: 3px; padding: 2px 0; }
.s { color: #888; font-size: .8em; } .n { color: #555; font-size: .9em; margin: 0; } .w { color: #a40000; }
"""


def page_text(found: Sequence[Attribution], title: str) -> str:
    """The page.

    Args:
        found: of each text.
        title: what stands above; plain text, as all that comes from files.
    """
    return "\n".join(_lines(found, title)) + "\n"


def is_large(found: Attribution) -> bool:
    """Whether the scores miss much of what the text changes."""
    return abs(found.delta) > LARGE_SHARE * abs(found.logit - found.baseline)


def _lines(found: Sequence[Attribution], title: str) -> Iterator[str]:
    yield f"<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{html.escape(title)}</title>"
    yield f"<style>\n{_STYLE}</style>\n<h1>{html.escape(title)}</h1>"
    yield (
        "<p>Integrated gradients on the embeddings, from a text of padding alone. Green tokens raise the logit of the"
        " label, red ones lower it; the colour is full at the largest score of each text. Completeness: the scores of a"
        " text sum up to what it changes of the logit; the delta is what is missing.</p>"
    )
    for each in found:
        yield f"<h2>{html.escape(each.id)}: {html.escape(each.target)}</h2>"
        total = sum(token.score for token in each.tokens)
        mark = " w" if is_large(each) else ""
        yield (
            f"<p class='n'>predicted {html.escape(str(each.predicted))}; logit {each.logit:.4f}, of padding"
            f" {each.baseline:.4f}; sum of the scores {total:.4f}; <span class='d{mark}'>delta {each.delta:.4f}"
            f"{', more than 5 % of the difference: more --steps' if mark else ''}</span></p>"
        )
        largest = max((abs(token.score) for token in each.tokens), default=0.0) or 1.0
        yield "<div class='x'>"
        yield "".join(
            _span(token, largest, each.tokens[at - 1] if at else None) for at, token in enumerate(each.tokens)
        )
        yield "</div>"


def _span(token: TokenScore, largest: float, before: TokenScore | None) -> str:
    text = html.escape(token.text)
    line = "<br>" if before is not None and token.is_second and not before.is_second else ""
    if token.is_special:
        return f"{line}<span class='s' title='{token.score:+.4f}'>{text}</span>"
    colour = "0, 130, 60" if token.score > 0 else "200, 30, 30"
    style = f"background: rgba({colour}, {0.75 * abs(token.score) / largest:.3f})"
    return f"{line}<span style='{style}' title='{token.score:+.4f}'>{text}</span>"
