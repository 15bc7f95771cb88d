"""`merge`: one corpus of the documents of one or several corpora, in shards of any size, streamed from file to file.

Documents, their sequences and their metadata stay as they are, in the order in which the corpora are given. Prefixes
that Megatron's `preprocess_data.py` wrote are corpora, too; the ids get the type of the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import xxhash

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.manifest import (
    MANIFEST,
    TOKEN_COUNTS,
    TOKENIZER,
    CorpusManifest,
    ShardEntry,
    joined_manifest,
)
from data_prep.corpus.shard_pieces import IndexPieces, read_shard_documents
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.shards import ShardReader, bin_path, metadata_path, token_dtype
from data_prep.corpus_tools.agreement import agreeing_manifests
from data_prep.parallel.progress import WorkProgress
from data_prep.parallel.tally import TaskTally
from data_prep.reading.files import reading
from data_prep.storage.durable import writing
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable
from data_prep.tokenizer import load_tokenizer


class _Source:
    """A shard, found to be right, that is read once, from its first document to its last."""

    def __init__(self, shard: ShardReader) -> None:
        self.index = IndexPieces(shard)
        self.metadata_path = metadata_path(shard.prefix)
        self.has_metadata = self.metadata_path.exists()
        self._shard = shard
        self._metadata_at_bytes = 0
        if self.index.has_modes:
            raise DataError(
                "has a mode for each sequence (multimodal), which merging does not keep", where=self.index.path
            )

    def copy_documents(self, first: int, end: int, writer: ShardWriter, tally: TaskTally) -> None:
        """Documents [first, end)."""
        for documents in read_shard_documents(self._shard, first, end):
            bounds = self.index.bounds(documents.first, documents.first + len(documents.starts))
            lengths = self.index.lengths(int(bounds[0]), int(bounds[-1]))
            writer.add_documents(documents.tokens, lengths.astype(np.int64), np.diff(bounds))
            tally.advance(documents.tokens.nbytes, len(documents.tokens))

    def metadata_lines(self, first: int, end: int) -> Iterator[bytes]:
        """The metadata of documents [first, end), which follow those read before; of a shard without, empty objects."""
        if not self.has_metadata:
            yield from repeat(b"{}\n", end - first)
            return
        with reading(str(self.metadata_path)), self.metadata_path.open("rb") as stream:
            stream.seek(self._metadata_at_bytes)
            for line in islice(stream, end - first):
                self._metadata_at_bytes += len(line)
                yield line if line.endswith(b"\n") else line + b"\n"


@dataclass(frozen=True)
class _Piece:
    """Documents [first, end) of a shard."""

    source: _Source
    first: int
    end: int


def merge_corpora(
    corpora: list[Corpus], output: Path, max_shard_bytes: int, overwrite: bool = False, tokenizer: Path | None = None
) -> CorpusManifest:
    """Write the corpus `output`, which has the documents of `corpora` in shards of at most `max_shard_bytes`.

    A document longer than that has a shard of its own. All corpora are verified first, since the output's own hashes
    would vouch for damage, too. The output appears when it is whole.

    Args:
        corpora: corpus directories and bare prefixes, in the order of the output.
        output: the directory to write.
        max_shard_bytes: size of a `.bin` file at which the next is begun.
        overwrite: replace a corpus that is there.
        tokenizer: that of the prefixes; None: the one that lies in a corpus directory among them.

    Raises:
        DataError: if corpora do not fit together or are not what was written, or the output is in the way.
        MachineError: if the output cannot be written.
    """
    _refuse_repeated(corpora, output)
    check_replaceable(output, MANIFEST, overwrite, [corpus.path for corpus in corpora])
    path = tokenizer or next((corpus.tokenizer_path for corpus in corpora if corpus.tokenizer_path), None)
    if path is None:
        raise DataError(
            "is a bare prefix: no tokenizer lies with it", where=corpora[0].path, expected="its tokenizer, --tokenizer"
        )
    loaded = load_tokenizer(path)
    manifests, counts = agreeing_manifests(corpora, loaded, tokenizer)
    sources = [_sources(corpus) for corpus in corpora]
    dtype = token_dtype(manifests[0].vocab_size)
    groups = _groups([source for of_corpus in sources for source in of_corpus], max_shard_bytes // dtype.itemsize)
    total = sum(bin_path(shard.prefix).stat().st_size for corpus in corpora for shard in corpus.shards)
    tally = TaskTally()
    staged = staged_directory(output, MANIFEST, overwrite, [corpus.path for corpus in corpora])
    with staged as directory, WorkProgress("merge", total, tally.look):
        loaded.copy_to(directory / TOKENIZER)
        entries = [
            _write_shard(directory / f"shard_{number:05d}", group, dtype, tally) for number, group in enumerate(groups)
        ]
        np.save(directory / TOKEN_COUNTS, counts)
        merged = joined_manifest(manifests, entries)
        merged.write(directory)
    return merged


def _refuse_repeated(corpora: list[Corpus], output: Path) -> None:
    seen: dict[str, Path] = {}
    for corpus in corpora:
        if output.resolve() == corpus.path.resolve():
            raise DataError("is the corpus that is merged", where=output, expected="another directory")
        key = corpus.fingerprint if corpus.manifest is not None else str(corpus.path.resolve())
        if key in seen:
            expected = "each corpus once; `mix` says how often pretraining reads one"
            raise DataError(f"is the same corpus as {seen[key]}", where=corpus.path, expected=expected)
        seen[key] = corpus.path


def _sources(corpus: Corpus) -> list[_Source]:
    """The shards of a corpus, which have metadata all or none."""
    sources = [_Source(shard) for shard in corpus.shards]
    without = [source for source in sources if not source.has_metadata]
    if without and len(without) < len(sources):
        expected = "metadata of all shards of a corpus or none"
        raise DataError("is missing", where=without[0].metadata_path, expected=expected)
    return sources


def _groups(sources: list[_Source], room_tokens: int) -> Iterator[list[_Piece]]:
    """What goes into each new shard: as many documents as fit, at least one."""
    group: list[_Piece] = []
    held = 0
    for source in sources:
        index = source.index
        begin = 0
        for first, starts in index.document_pieces():
            done, count = 0, len(starts) - 1
            while done < count:
                stop = int(np.searchsorted(starts, starts[done] + max(0, room_tokens - held), side="right")) - 1
                if stop == done and held == 0:
                    stop = done + 1  # a document longer than a shard
                held += int(starts[stop] - starts[done])
                done = stop
                if done < count:
                    if first + done > begin:
                        group.append(_Piece(source, begin, first + done))
                    yield group
                    group, held, begin = [], 0, first + done
        if begin < index.num_documents:
            group.append(_Piece(source, begin, index.num_documents))
    if group:
        yield group


def _write_shard(prefix: Path, pieces: list[_Piece], dtype: np.dtype, tally: TaskTally) -> ShardEntry:
    with ShardWriter(prefix, dtype) as writer:
        for piece in pieces:
            piece.source.copy_documents(piece.first, piece.end, writer, tally)
    metadata = None
    if any(piece.source.has_metadata for piece in pieces):
        digest = xxhash.xxh3_128()
        with writing(prefix), metadata_path(prefix).open("wb") as stream:
            for piece in pieces:
                for line in piece.source.metadata_lines(piece.first, piece.end):
                    digest.update(line)
                    stream.write(line)
        metadata = digest.hexdigest()
    return ShardEntry(
        name=prefix.name,
        documents=writer.num_documents,
        tokens=writer.num_tokens,
        bin_bytes=writer.bin_bytes,
        idx_bytes=writer.idx_bytes,
        bin_xxh3=writer.bin_xxh3,
        idx_xxh3=writer.idx_xxh3,
        metadata_xxh3=metadata,
    )
