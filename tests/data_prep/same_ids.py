"""Compares a whole corpus, read by Megatron's own reader, with what SentencePiece itself makes of its documents.

    python -m tests.data_prep.same_ids --corpus DIR --input FILES... [--text-field text]

The input is what the corpus was made of; it is read here by nothing but the libraries. Ends with status 1 at the first
document that differs. For corpora that were tokenized with SentencePiece and without sentence borders.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import orjson
import zstandard
from megatron.core.datasets.indexed_dataset import IndexedDataset
from sentencepiece import SentencePieceProcessor

_SPACE = "\u2581"


def texts(paths: list[Path], field: str) -> Iterator[str]:
    """The texts of JSON lines, plain or Zstandard."""
    for path in paths:
        stream = io.BufferedReader(zstandard.open(path, "rb")) if path.suffix == ".zst" else path.open("rb")
        with stream:
            for line in stream:
                text = orjson.loads(line)[field]
                if text:
                    yield text


def main() -> int:
    """Compare everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--input", type=Path, nargs="+", required=True)
    parser.add_argument("--text-field", default="text")
    arguments = parser.parse_args()
    manifest = orjson.loads((arguments.corpus / "manifest.json").read_bytes())
    model = SentencePieceProcessor(model_file=str(arguments.corpus / "tokenizer" / "tokenizer.model"))
    end = [] if manifest["end_of_document"] is None else [manifest["end_of_document"]]
    expected = texts(arguments.input, arguments.text_field)
    documents = tokens = skipped = 0
    for shard in manifest["shards"]:
        dataset = IndexedDataset(str(arguments.corpus / shard["name"]))
        if len(dataset) != shard["documents"]:
            print(f"{shard['name']}: Megatron finds {len(dataset)} documents, the manifest says {shard['documents']}")
            return 1
        for number in range(len(dataset)):
            text, found = next(expected), dataset[number]
            documents, tokens = documents + 1, tokens + len(found)
            if _SPACE in text:
                # Ours writes a literal U+2581 as bytes, so that it survives.
                skipped += 1
                continue
            if not np.array_equal(found, [*model.encode(text), *end]):
                print(f"{shard['name']}, document {number}: other ids than SentencePiece's for {text[:80]!r}")
                return 1
    left = sum(1 for _ in expected)
    print(
        f"{documents - skipped:,} of {documents:,} documents, {tokens:,} tokens in {len(manifest['shards'])} shards:"
        f" Megatron reads them, and the ids are SentencePiece's own; {skipped} hold U+2581"
    )
    if left:
        print(f"{left} documents of the input are not in the corpus")
    return int(bool(left))


if __name__ == "__main__":
    sys.exit(main())
