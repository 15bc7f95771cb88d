"""Whether corpora can be one: verified, made by one tokenizer with the same settings; what a bare prefix holds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.manifest import CorpusManifest, ShardEntry, SourceEntry, dtype_name, program
from data_prep.corpus.shard_check import ShardCheck, check_shard
from data_prep.corpus.shard_pieces import read_tokens
from data_prep.corpus.shards import ShardReader, bin_path, idx_path
from data_prep.corpus_tools.verification import verify_corpus
from data_prep.tokenizer import Tokenizer

_AGREEING = (
    *("tokenizer_fingerprint", "vocab_size", "end_of_document", "beginning_of_document", "sentences", "answers"),
)


def agreeing_manifests(
    corpora: list[Corpus], tokenizer: Tokenizer, given: Path | None
) -> tuple[list[CorpusManifest], np.ndarray]:
    """Verify corpora that are to be one.

    Args:
        corpora: corpus directories and bare prefixes.
        tokenizer: that of the prefixes.
        given: where it lies, if it is not a copy in one of the directories.

    Returns:
        What each corpus holds; how often each id occurs in all, int64 [vocab_size].

    Raises:
        DataError: if one is not what was written, or two do not fit together.
    """
    said = {corpus.path: corpus.manifest for corpus in corpora if corpus.manifest is not None}
    first, named = next(iter(said), None), {"tokenizer_fingerprint": tokenizer.fingerprint}
    for path, manifest in said.items():
        assert first is not None
        _refuse_difference(path, manifest, first, said[first].model_dump())
        if given is not None:
            _refuse_difference(path, manifest, given, named)
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    found: list[CorpusManifest] = []
    for corpus in corpora:
        if corpus.manifest is not None:
            verify_corpus(corpus.path, workers=1, limit=1).problems.refuse(corpus.path)
            manifest, own = corpus.manifest, corpus.token_counts()
        else:
            manifest, own = _check_prefix(corpus, tokenizer)
            like = (first, said[first]) if first is not None else (corpora[0].path, (found or [manifest])[0])
            _refuse_difference(corpus.path, manifest, like[0], like[1].model_dump())
        counts += own
        found.append(manifest)
    if len(corpora) > 1:
        pairs = zip(corpora, found)
        found = [m.model_copy(update={"sources": _as_one_source(corpus.path, m)}) for corpus, m in pairs]
    return found, counts


def _refuse_difference(path: Path, manifest: CorpusManifest, other: Path, said: Mapping[str, object]) -> None:
    for name in _AGREEING:
        value = getattr(manifest, name)
        if name in said and value != said[name]:
            raise DataError(
                f"has {name} = {value}, but {other} has {said[name]}",
                where=path,
                expected="corpora that one tokenizer made with the same settings; tokenize one of them again",
            )


def _check_prefix(corpus: Corpus, tokenizer: Tokenizer) -> tuple[CorpusManifest, np.ndarray]:
    """Read a bare prefix -> what its manifest would say, and how often each id occurs, int64 [vocab_size].

    Documents that end or begin with the id for it must all do so: the last token and the first one tell.
    """
    shard, prefix, vocab_size = corpus.shards[0], corpus.path, tokenizer.vocab_size
    end = _border(shard, shard.num_tokens - 1, tokenizer.role("end_of_document"))
    begin = _border(shard, 0, tokenizer.role("beginning_of_document"))
    begin = None if begin == end else begin  # one id for both, as GPT-2 has it, ends documents
    found = check_shard(ShardCheck(prefix, None, None, vocab_size, end, limit=1, beginning_of_document=begin))
    found.problems.refuse(prefix)
    entry = ShardEntry(
        name=prefix.name,
        documents=found.documents,
        tokens=found.tokens,
        bin_bytes=bin_path(prefix).stat().st_size,
        idx_bytes=idx_path(prefix).stat().st_size,
        bin_xxh3="",
        idx_xxh3="",
    )
    manifest = CorpusManifest(
        created_by=program(),
        dtype=dtype_name(vocab_size),
        vocab_size=vocab_size,
        end_of_document=end,
        beginning_of_document=begin,
        tokenizer_fingerprint=tokenizer.fingerprint,
        engine="unknown",
        sentences=found.sequences != found.documents,
        text_bytes=int(found.counts @ tokenizer.token_bytes().astype(np.int64)),
        shards=[entry],
    )
    return manifest, found.counts


def _border(shard: ShardReader, at: int, role: int | None) -> int | None:
    """The id `role` if the token `at` is it."""
    return role if shard.num_tokens and int(read_tokens(shard, at, at + 1)[0]) == role else None


def _as_one_source(path: Path, manifest: CorpusManifest) -> list[SourceEntry]:
    """The sources of a corpus; itself where they do not count what they gave, as those of other corpora do."""
    if sum(source.documents for source in manifest.sources) == manifest.documents:
        return manifest.sources
    return [
        SourceEntry(
            path=str(path),
            bytes=sum(shard.bin_bytes for shard in manifest.shards),
            documents=manifest.documents,
            tokens=manifest.tokens,
            text_bytes=manifest.text_bytes,
            malformed=manifest.malformed_records + manifest.too_long_records,
        )
    ]
