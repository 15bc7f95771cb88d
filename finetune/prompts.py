"""Prompts from files and standard input, and answers as lines of JSON. No torch."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from finetune.utf8 import refuse_undecodable

if TYPE_CHECKING:
    from finetune.sampling import Generated

STDIN = "-"


@dataclass(frozen=True)
class Prompt:
    """One prompt.

    Attributes:
        text: to go on with.
        id: what its record calls it, any JSON value; None: nothing.
    """

    text: str
    id: Any = None


def read_prompts(path: Path, *, jsonl: bool | None = None) -> list[Prompt]:
    """The prompts of a file or, of the path `-`, of standard input.

    Args:
        path: one prompt a line, or JSON strings or objects with `prompt` or `text`, and `id` if they have one.
        jsonl: whether it is JSON lines; None: as its name says.

    Raises:
        DataError: unreadable, malformed or empty; names the line.
    """
    where = "standard input" if str(path) == STDIN else str(path)
    is_jsonl = path.suffix == ".jsonl" if jsonl is None else jsonl
    try:
        content = sys.stdin.buffer.read() if str(path) == STDIN else path.read_bytes()
        # Not `splitlines`: a form feed or U+2028 stands within a line.
        lines = content.decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read ({error})", where=where, expected="a text file of prompts") from None
    prompts = []
    for number, line in enumerate(lines, start=1):
        line = line.removesuffix("\r")
        if line.strip():
            prompts.append(_parse(line, f"{where}, line {number}") if is_jsonl else Prompt(line))
    if not prompts:
        raise DataError("holds no prompts", where=where, expected="one a line")
    return prompts


def check_answers_file(path: Path, overwrite: bool) -> None:
    """Refuse a file for answers that is there already.

    Raises:
        ConfigError: names it.
    """
    if path.suffix != ".jsonl":
        raise ConfigError(f"is {path}", where="--output", expected="a .jsonl file: answers are written as JSON lines")
    if path.is_dir() or (path.exists() and not overwrite):
        expected = "the path of a file" if path.is_dir() else "a new file, or --overwrite to replace this one"
        raise ConfigError("exists already", where=path, expected=expected)


def answer_line(answer: Generated, prompt: Prompt) -> str:
    """An answer as a line of JSON, without a line feed."""
    record = {
        **({"id": prompt.id} if prompt.id is not None else {}),
        "prompt": answer.prompt,
        "text": answer.text,
        "sample": answer.sample,
        "tokens": answer.tokens,
        "ended_by": answer.ended_by,
    }
    return json.dumps(record, ensure_ascii=False)


def _parse(line: str, where: str) -> Prompt:
    try:
        record = json.loads(line)
    except ValueError:
        raise DataError("is not valid JSON", where=where) from None
    found = record.get("prompt", record.get("text")) if isinstance(record, dict) else record
    if not isinstance(found, str):
        has = f"only {', '.join(map(str, record))}" if isinstance(record, dict) else f"a {type(record).__name__}"
        raise DataError(
            f"holds no prompt ({has})", where=where, expected="a string, or an object with 'prompt' or 'text'"
        )
    refuse_undecodable(found, where)
    return Prompt(found, record.get("id") if isinstance(record, dict) else None)
