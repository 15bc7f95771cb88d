"""A tokenized corpus as its readers see it: a directory that `tokenize` wrote, or a bare Megatron prefix."""

from __future__ import annotations

import contextlib
from functools import cached_property
from pathlib import Path

import numpy as np
import xxhash

from configs.errors import DataError, nearest
from data_prep.corpus.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, CorpusManifest
from data_prep.corpus.shard_check import check_index
from data_prep.corpus.shard_pieces import TOKENS_PER_PIECE, IndexPieces, read_tokens
from data_prep.corpus.shard_problems import Problems
from data_prep.corpus.shards import ShardReader, bin_path, idx_path

_COUNTS = "the token counts of the corpus, as tokenize wrote them"


class Corpus:
    """Shards in order with what is known about them; open one with `Corpus.open`.

    Attributes:
        path: the corpus directory or Megatron prefix.
        shards: readers of the shards.
        manifest: the manifest; None for a bare prefix.
        num_documents, num_tokens: in all shards.
    """

    def __init__(self, path: Path, shards: list[ShardReader], manifest: CorpusManifest | None) -> None:
        self.path = path
        self.shards = shards
        self.manifest = manifest
        self.num_documents: int = sum(shard.num_documents for shard in shards)
        self.num_tokens: int = sum(shard.num_tokens for shard in shards)

    @classmethod
    def open(cls, path: Path) -> Corpus:
        """Open a corpus directory with a `manifest.json`, or a Megatron prefix (`path.bin` and `path.idx`).

        Raises:
            DataError: if there is neither, naming the nearest corpus, or a shard is missing, truncated or not the
                one that the manifest describes.
        """
        path = Path(path)
        if path.is_dir():
            if not (path / MANIFEST).is_file():
                prefixes = sorted(file.with_suffix("") for file in path.glob("*.idx"))
                raise DataError(
                    f"is not a corpus: it has no {MANIFEST}",
                    where=path,
                    expected="a directory that `python -m data_prep tokenize` wrote, or a prefix of .bin and .idx",
                    nearest=str(prefixes[0]) if prefixes else _nearest_corpus(path),
                )
            manifest = CorpusManifest.read(path)
            return cls(path, [_open_shard(path, manifest, number) for number in range(len(manifest.shards))], manifest)
        if path.suffix in (".bin", ".idx"):
            path = path.with_suffix("")
        if bin_path(path).exists() or idx_path(path).exists():
            return cls(path, [ShardReader(path)], None)
        partial = path.with_name(path.name + ".partial")
        if partial.is_dir():
            raise DataError(
                "is not finished", where=partial, expected="a whole corpus: run the same `tokenize` again, it continues"
            )
        raise DataError(
            "there is no such corpus",
            where=path,
            expected="a directory that `python -m data_prep tokenize` wrote, or a prefix of .bin and .idx",
            nearest=_nearest_corpus(path),
        )

    @property
    def tokenizer_path(self) -> Path | None:
        """The copy of the tokenizer that made the corpus; None for a bare prefix."""
        return self.path / TOKENIZER if self.manifest is not None else None

    @property
    def tokenizer_fingerprint(self) -> str | None:
        """Fingerprint of the tokenizer that made the corpus; None for a bare prefix."""
        return self.manifest.tokenizer_fingerprint if self.manifest is not None else None

    @property
    def vocab_size(self) -> int | None:
        """Number of ids of the tokenizer; None for a bare prefix."""
        return self.manifest.vocab_size if self.manifest is not None else None

    @property
    def text_bytes(self) -> int | None:
        """UTF-8 bytes of the text that the tokens stand for; None for a bare prefix."""
        return self.manifest.text_bytes if self.manifest is not None else None

    @cached_property
    def fingerprint(self) -> str:
        """Hash that changes when tokens, documents or tokenizer do; of a bare prefix, of its index and `.bin` size."""
        if self.manifest is not None:
            return self.manifest.fingerprint
        digest = xxhash.xxh3_128()
        with idx_path(self.path).open("rb") as stream:
            while chunk := stream.read(1 << 24):
                digest.update(chunk)
        digest.update(str(bin_path(self.path).stat().st_size).encode())
        return digest.hexdigest()

    @cached_property
    def beginnings(self) -> tuple[str, ...]:
        """The fingerprints of its first shards, by which one is known that it grew from; its own is the last."""
        return (self.fingerprint,) if self.manifest is None else self.manifest.beginnings

    def token_counts(self) -> np.ndarray:
        """How often each id occurs, int64 [vocab_size]; of a bare prefix, [largest id + 1], counted by reading it.

        Raises:
            DataError: if the file of counts is damaged.
        """
        if self.manifest is None:
            return self.count_tokens()
        path = self.path / TOKEN_COUNTS
        try:
            counts = np.load(path, allow_pickle=False)
        except OSError as error:
            raise DataError(f"cannot be read ({error.strerror})", where=path, expected=_COUNTS) from None
        except (ValueError, EOFError):
            raise DataError("is damaged", where=path, expected=_COUNTS) from None
        if counts.shape != (self.manifest.vocab_size,) or counts.sum() != self.num_tokens:
            raise DataError(
                f"holds {counts.size:,} ids and {int(counts.sum()):,} tokens",
                where=path,
                expected=f"{self.manifest.vocab_size:,} ids and {self.num_tokens:,} tokens",
            )
        return counts

    def check_index(self) -> None:
        """Read the indexes, piece by piece, before documents are walked: a damaged one would give others' tokens.

        Raises:
            DataError: if sequences do not lie back to back or documents do not follow each other.
        """
        for shard in self.shards:
            problems = Problems(limit=1)
            check_index(IndexPieces(shard), problems)
            problems.refuse(self.path)

    def count_tokens(self) -> np.ndarray:
        """Read all shards and count each id, int64 [at least the largest id + 1].

        Raises:
            DataError: if a shard holds a negative id.
        """
        counts = np.zeros(self.vocab_size or 1, dtype=np.int64)
        for shard in self.shards:
            for start in range(0, shard.num_tokens, TOKENS_PER_PIECE):
                chunk = read_tokens(shard, start, min(start + TOKENS_PER_PIECE, shard.num_tokens))
                if int(chunk.min()) < 0:
                    raise DataError(f"holds the token id {int(chunk.min())}", where=bin_path(shard.prefix))
                found = np.bincount(chunk)
                if len(found) > len(counts):
                    counts = np.pad(counts, (0, len(found) - len(counts)))
                counts[: len(found)] += found
        return counts

    def unigram_entropy_nats(self) -> float:
        """Entropy of the id frequencies in nats per token: the loss of a model that knows nothing else."""
        counts = self.token_counts()
        shares = counts[counts > 0] / max(1, counts.sum())
        return float(-(shares * np.log(shares)).sum())


def _open_shard(directory: Path, manifest: CorpusManifest, number: int) -> ShardReader:
    entry = manifest.shards[number]
    reader = ShardReader(directory / entry.name)
    found = (reader.num_documents, reader.num_tokens, reader.dtype.name)
    expected = (entry.documents, entry.tokens, manifest.dtype)
    if found != expected:
        raise DataError(
            "holds {:,} documents and {:,} tokens of {}".format(*found),
            where=reader.prefix,
            expected="{:,} documents and {:,} tokens of {}, as the manifest says".format(*expected),
        )
    return reader


def _nearest_corpus(path: Path) -> str | None:
    """The existing corpus whose path is most like `path`, looked for a few directories around it."""
    root = next((parent for parent in path.parents if parent.is_dir()), None)
    if root is None:
        return None
    candidates: list[str] = []
    for pattern in ("*", "*/*", "*/*/*"):
        # Directories may go, or be closed, while they are looked through: then there is no hint.
        with contextlib.suppress(OSError):
            candidates += [str(file.parent) for file in sorted(root.glob(f"{pattern}/{MANIFEST}"))]
    return nearest(str(path), candidates)
