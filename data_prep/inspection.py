"""`inspect` and `verify`: what a corpus holds, and whether it is still what was written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xxhash

from configs.errors import DataError
from data_prep.corpus import Corpus
from data_prep.shards import bin_path, idx_path
from data_prep.tokenizer import Tokenizer

_QUANTILES = (0, 10, 50, 90, 99, 100)


def describe_corpus(corpus: Corpus) -> list[str]:
    """Lines with the counts of a corpus and the distribution of its documents' lengths."""
    counts = corpus.token_counts()
    lengths = np.concatenate([shard.document_lengths for shard in corpus.shards] or [np.empty(0, np.int64)])
    quantiles = np.percentile(lengths, _QUANTILES).astype(int) if len(lengths) else []
    named = ", ".join(f"p{q} {value:,}" for q, value in zip(_QUANTILES, quantiles))
    used = int(np.count_nonzero(counts))
    lines = [
        f"corpus           {corpus.path}",
        f"fingerprint      {corpus.fingerprint}",
        f"shards           {len(corpus.shards)} of {corpus.shards[0].dtype.name if corpus.shards else 'nothing'}",
        f"documents        {corpus.num_documents:,}",
        f"tokens           {corpus.num_tokens:,}",
        f"document tokens  {named}",
        f"ids in use       {used:,} of {corpus.vocab_size or len(counts):,}",
        f"unigram entropy  {corpus.unigram_entropy_nats():.4f} nats per token",
    ]
    if corpus.text_bytes is not None:
        per_token = corpus.text_bytes / max(1, corpus.num_tokens)
        lines.insert(5, f"text             {corpus.text_bytes:,} bytes, {per_token:.3f} per token")
    return lines


def decode_document(corpus: Corpus, number: int, tokenizer: Tokenizer | None = None) -> str:
    """Text of document `number`, counted from 0 over all shards.

    Raises:
        DataError: if there is no such document, or no tokenizer to decode it with.
    """
    if not 0 <= number < corpus.num_documents:
        raise DataError(
            f"there is no document {number}", where=corpus.path, expected=f"0 to {corpus.num_documents - 1:,}"
        )
    if tokenizer is None:
        if corpus.tokenizer_path is None:
            raise DataError("has no tokenizer with it", where=corpus.path, expected="--tokenizer DIRECTORY")
        tokenizer = Tokenizer.load(corpus.tokenizer_path)
    for shard in corpus.shards:
        if number < shard.num_documents:
            return _decode(shard.document(number), tokenizer, shard.prefix)
        number -= shard.num_documents
    raise AssertionError("shards hold fewer documents than the corpus")


def verify_corpus(corpus: Corpus) -> Iterator[str]:
    """Check every hash, id and count; yields a line for each thing found right.

    Raises:
        DataError: at the first that is not.
    """
    if corpus.manifest is not None:
        for entry, shard in zip(corpus.manifest.shards, corpus.shards):
            for path, expected in ((bin_path(shard.prefix), entry.bin_xxh3), (idx_path(shard.prefix), entry.idx_xxh3)):
                found = _hash(path)
                if found != expected:
                    raise DataError(f"has the hash {found}: it was changed or damaged", where=path, expected=expected)
            yield f"{entry.name}: {entry.documents:,} documents, {entry.tokens:,} tokens, hashes as written"
        assert corpus.tokenizer_path is not None
        tokenizer = Tokenizer.load(corpus.tokenizer_path)
        if tokenizer.fingerprint != corpus.tokenizer_fingerprint:
            raise DataError(
                f"has the fingerprint {tokenizer.fingerprint}",
                where=corpus.tokenizer_path,
                expected=f"{corpus.tokenizer_fingerprint}, as the manifest says",
            )
        yield "tokenizer: fingerprint as written"
    for shard in corpus.shards:
        if np.any(shard.document_lengths < 0):
            raise DataError("holds a document of negative length", where=idx_path(shard.prefix))
    counts = corpus.count_tokens()
    if corpus.vocab_size is not None and len(counts) > corpus.vocab_size:
        raise DataError(
            f"holds the token id {len(counts) - 1}", where=corpus.path, expected=f"ids below {corpus.vocab_size}"
        )
    if not np.array_equal(counts, corpus.token_counts()):
        raise DataError("its token counts are not those of its shards", where=corpus.path)
    yield f"{corpus.num_tokens:,} tokens counted, {np.count_nonzero(counts):,} different ids"


def _decode(tokens: np.ndarray, tokenizer: Tokenizer, where: Path) -> str:
    if len(tokens) and int(tokens.max()) >= tokenizer.vocab_size:
        raise DataError(
            f"holds the token id {int(tokens.max())}: this is not its tokenizer",
            where=where,
            expected=f"ids below {tokenizer.vocab_size}",
        )
    return tokenizer.decode(tokens.tolist())


def _hash(path: Path) -> str:
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()
