"""Whether the fast way to ids gives those of the vocabulary's own library, over all of a text and over hostile strings.

    python -m benchmarks.tokenization_equality TOKENIZER [--text FILE.jsonl] [--megabytes 200] [--strings 100000]

Without a file, the text is every Python source of this installation that is UTF-8. Prints what was compared, how long
both took in CPU seconds, and the memory of this process; ends with status 1 at the first text with other ids.
"""

from __future__ import annotations

import argparse
import os
import random
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

from data_prep.tokenizer import load_tokenizer
from tests.hostile_text import hostile_text

_BATCH_CHARS = 1 << 18
_SEED = 9


def sources() -> Iterator[str]:
    """Texts of the Python files of this installation, in an order of no meaning."""
    paths = [path for root in {sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")}
             for path in sorted(Path(root).rglob("*.py"))]  # fmt: skip
    random.Random(_SEED).shuffle(paths)
    seen = set()
    for path in paths:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if text and hash(text) not in seen:
            seen.add(hash(text))
            yield text


def texts_of(path: Path | None, megabytes: float) -> Iterator[str]:
    """Texts of a file of JSON lines, or of `sources`, up to a number of megabytes of UTF-8."""
    left_bytes = megabytes * 1e6
    lines = path.open("rb") if path is not None else ()
    for text in (orjson.loads(line)["text"] for line in lines) if path is not None else sources():
        yield text
        left_bytes -= len(text.encode())
        if left_bytes <= 0:
            return


def batches(texts: Iterator[str]) -> Iterator[list[str]]:
    """Groups of about a quarter million characters."""
    held: list[str] = []
    chars = 0
    for text in texts:
        held.append(text)
        chars += len(text)
        if chars >= _BATCH_CHARS:
            yield held
            held, chars = [], 0
    if held:
        yield held


def main() -> int:
    """Compare everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("--text", type=Path)
    parser.add_argument("--megabytes", type=float, default=200)
    parser.add_argument("--strings", type=int, default=100_000)
    arguments = parser.parse_args()
    reference, fast = (load_tokenizer(arguments.tokenizer, engine) for engine in ("reference", "auto"))  # type: ignore[arg-type]
    print(fast.explain_engine(), flush=True)
    special = [fast.piece(n) for n in range(fast.vocab_size) if fast.is_special(n) and fast.piece(n)]
    numbers = random.Random(_SEED)
    hostile = (hostile_text(numbers, special) for _ in range(arguments.strings))
    for name, texts in (("text", texts_of(arguments.text, arguments.megabytes)), ("hostile strings", hostile)):
        documents = text_bytes = tokens = 0
        spent_s = [0.0, 0.0]
        for batch in batches(texts):
            found = []
            for which, tokenizer in enumerate((reference, fast)):
                began_s = time.process_time()
                found.append(tokenizer.encode_flat(batch))
                spent_s[which] += time.process_time() - began_s
            if not all(map(np.array_equal, *found)):
                wrong = next(text for text in batch if fast.encode(text) != reference.encode(text))
                print(f"other ids for {wrong!r}")
                return 1
            documents += len(batch)
            text_bytes += sum(len(text.encode()) for text in batch)
            tokens += len(found[0][0])
        print(f"{name}: {documents:,} documents, {text_bytes:,} bytes, {tokens:,} ids: all equal;"
              f" CPU s {spent_s[0]:.1f} and {spent_s[1]:.1f}", flush=True)  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
