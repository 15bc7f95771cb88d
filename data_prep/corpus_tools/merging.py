"""`merge`: the same documents in fewer or other shards, streamed from file to file.

Training reads a corpus of many shards as one, so this is for tools that want a single file. Documents, their sequences
and their metadata stay as they are and in their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash

from configs.errors import DataError
from data_prep.corpus.corpus import Corpus
from data_prep.corpus.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, ShardEntry
from data_prep.corpus.shard_check import ShardFindings, check_hash, count_ids, files_differ
from data_prep.corpus.shard_pieces import IndexPieces, read_shard_documents
from data_prep.corpus.shard_problems import Problems
from data_prep.corpus.shard_writer import ShardWriter
from data_prep.corpus.shards import ShardReader, bin_path, metadata_path
from data_prep.corpus_tools.verification import check_token_counts, check_tokenizer
from data_prep.parallel.progress import WorkProgress
from data_prep.parallel.tally import TaskTally
from data_prep.reading.files import reading
from data_prep.storage.durable import writing
from data_prep.storage.publishing import staged_directory
from data_prep.storage.replaceable import check_replaceable


class _Source:
    """A shard that is read once, from its first document to its last; what is read is held against the manifest.

    Args:
        shard: the shard, whose index is in order.
        entry: what the manifest says of it.
        corpus: where it is from.
        counts: how often each id was read, int64 [vocab_size]; the shard's are added.
    """

    def __init__(self, shard: ShardReader, entry: ShardEntry, corpus: Path, counts: np.ndarray) -> None:
        self.index = IndexPieces(shard)
        self.shard = shard
        self.metadata_path = metadata_path(shard.prefix)
        self.has_metadata = entry.metadata_xxh3 is not None or self.metadata_path.exists()
        self._entry = entry
        self._corpus = corpus
        self._findings = ShardFindings(Problems(limit=1), counts)
        self._tokens_hash, self._metadata_hash = xxhash.xxh3_128(), xxhash.xxh3_128()
        self._metadata_bytes = 0

    def copy_documents(self, first: int, end: int, writer: ShardWriter, tally: TaskTally) -> None:
        """Documents [first, end), which follow those copied before.

        Raises:
            DataError: if an id is not in the vocabulary, or with the last one, if tokens are not those once written.
        """
        path, problems = bin_path(self.shard.prefix), self._findings.problems
        for documents in read_shard_documents(self.shard, first, end):
            bounds = self.index.bounds(documents.first, documents.first + len(documents.starts))
            lengths = self.index.lengths(int(bounds[0]), int(bounds[-1]))
            if len(documents.tokens):
                self._tokens_hash.update(documents.tokens.data)
            count_ids(documents.tokens, self._findings.tokens, path, self._findings)
            problems.refuse(self._corpus)
            writer.add_documents(documents.tokens, lengths.astype(np.int64), np.diff(bounds))
            self._findings.tokens += len(documents.tokens)
            tally.advance(documents.tokens.nbytes, len(documents.tokens))
        if end == self.shard.num_documents:
            check_hash(path, self._tokens_hash.hexdigest(), self._entry.bin_xxh3, problems)
            problems.refuse(self._corpus)

    def metadata_lines(self, first: int, end: int) -> Iterator[bytes]:
        """The metadata of documents [first, end), which follow those read before.

        Raises:
            DataError: if there is no line for each document, or with the last one, if they are not those once written.
        """
        path, last = self.metadata_path, end == self.shard.num_documents
        if not path.exists():
            raise DataError("is missing", where=path, expected="metadata of all shards or none, as the manifest says")
        found = 0
        with reading(str(path)), path.open("rb") as stream:
            stream.seek(self._metadata_bytes)
            for line in islice(stream, end - first):
                self._metadata_hash.update(line)
                self._metadata_bytes += len(line)
                yield line if line.endswith(b"\n") else line + b"\n"
                found += 1
            more = stream.readline() if last else b""
        if found != end - first or more:
            how = "goes on after" if more else "ends before"
            raise DataError(f"{how} document {end - 1}", where=path, expected="a line for each document")
        if last and self._entry.metadata_xxh3 is not None:
            check_hash(path, self._metadata_hash.hexdigest(), self._entry.metadata_xxh3, self._findings.problems)
            self._findings.problems.refuse(self._corpus)


@dataclass(frozen=True)
class _Piece:
    """Documents [first, end) of a shard."""

    source: _Source
    first: int
    end: int


def merge_corpus(corpus: Corpus, output: Path, max_shard_bytes: int, overwrite: bool = False) -> list[ShardEntry]:
    """Write the corpus `output`, which has the documents of `corpus` in shards of at most `max_shard_bytes`.

    A document longer than that has a shard of its own. All that is read is compared with the manifest on the way, since
    the output's own hashes would vouch for damage, too. The output appears when it is whole.

    Returns:
        The new shards.

    Raises:
        DataError: if `corpus` has no manifest or is not what was written, or the output is in the way.
        MachineError: if the output cannot be written.
    """
    manifest = corpus.manifest
    if manifest is None:
        raise DataError("is a bare prefix", where=corpus.path, expected="a corpus directory; one prefix is one shard")
    if output.resolve() == corpus.path.resolve():
        raise DataError("is the corpus that is merged", where=output, expected="another directory")
    check_replaceable(output, MANIFEST, overwrite, [corpus.path])
    problems = Problems(limit=1)
    check_tokenizer(corpus.path, manifest, problems)
    problems.refuse(corpus.path)
    corpus.token_counts()  # one that cannot be read is told now, one that is wrong when all ids are counted
    corpus.check_index()
    for shard, entry in zip(corpus.shards, manifest.shards):
        files_differ(shard.prefix, entry, problems)
        problems.refuse(corpus.path)
    counts = np.zeros(manifest.vocab_size, dtype=np.int64)
    pairs = zip(corpus.shards, manifest.shards)
    groups = list(_groups([_Source(shard, entry, corpus.path, counts) for shard, entry in pairs], max_shard_bytes))
    total = corpus.num_tokens * np.dtype(manifest.dtype).itemsize
    tally = TaskTally()
    staged = staged_directory(output, MANIFEST, overwrite, [corpus.path])
    with staged as directory, WorkProgress("merge", total, tally.look):
        _copy_files(corpus.path / TOKENIZER, directory / TOKENIZER)
        entries = [
            _write_shard(directory / f"shard_{number:05d}", group, np.dtype(manifest.dtype), tally)
            for number, group in enumerate(groups)
        ]
        check_token_counts(corpus.path, counts, problems)
        problems.refuse(corpus.path)
        np.save(directory / TOKEN_COUNTS, counts)
        manifest.model_copy(update={"shards": entries}).write(directory)
    return entries


def _groups(sources: list[_Source], max_shard_bytes: int) -> Iterator[list[_Piece]]:
    """What goes into each new shard: as many documents as fit, at least one."""
    group: list[_Piece] = []
    held = 0
    for source in sources:
        index = source.index
        if index.has_modes:
            raise DataError("has a mode for each sequence (multimodal), which merging does not keep", where=index.path)
        room, begin = max_shard_bytes // index.token_bytes, 0
        for first, starts in index.document_pieces():
            done, count = 0, len(starts) - 1
            while done < count:
                stop = int(np.searchsorted(starts, starts[done] + max(0, room - held), side="right")) - 1
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


def _copy_files(source: Path, target: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            with reading(str(path)):
                data = path.read_bytes()
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
