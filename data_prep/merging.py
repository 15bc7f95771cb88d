"""`merge`: the same documents in fewer or other shards, streamed from file to file.

Training reads a corpus of many shards as one, so this is for tools that want a single file. Documents, their sequences
and their metadata stay as they are and in their order.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash

from configs.errors import DataError
from data_prep.atomic import check_replaceable, staged_directory, writing
from data_prep.corpus import Corpus
from data_prep.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, ShardEntry
from data_prep.progress import Progress
from data_prep.shard_pieces import IndexPieces, read_documents
from data_prep.shard_writer import ShardWriter
from data_prep.shards import ShardReader, metadata_path
from data_prep.tally import Tally


@dataclass(frozen=True)
class Piece:
    """Documents [first, end) of a shard."""

    shard: ShardReader
    first: int
    end: int


def merge_corpus(corpus: Corpus, output: Path, max_shard_bytes: int, overwrite: bool = False) -> list[ShardEntry]:
    """Write the corpus `output`, which has the documents of `corpus` in shards of at most `max_shard_bytes`.

    A document longer than that has a shard of its own. The output appears when it is whole.

    Returns:
        The new shards.

    Raises:
        DataError: if `corpus` has no manifest or cannot be merged, or the output is in the way.
        MachineError: if the output cannot be written.
    """
    manifest = corpus.manifest
    if manifest is None:
        raise DataError("is a bare prefix", where=corpus.path, expected="a corpus directory; one prefix is one shard")
    if output.resolve() == corpus.path.resolve():
        raise DataError("is the corpus that is merged", where=output, expected="another directory")
    check_replaceable(output, MANIFEST, overwrite)
    groups = list(_groups(corpus, max_shard_bytes))
    total = corpus.num_tokens * np.dtype(manifest.dtype).itemsize
    tally = Tally()
    with staged_directory(output, MANIFEST, overwrite) as directory, Progress("merge", total, tally.look):
        shutil.copytree(corpus.path / TOKENIZER, directory / TOKENIZER)
        shutil.copyfile(corpus.path / TOKEN_COUNTS, directory / TOKEN_COUNTS)
        entries = [
            _write_shard(directory / f"shard_{number:05d}", group, np.dtype(manifest.dtype), tally)
            for number, group in enumerate(groups)
        ]
        manifest.model_copy(update={"shards": entries}).write(directory)
    return entries


def _groups(corpus: Corpus, max_shard_bytes: int) -> Iterator[list[Piece]]:
    """What goes into each new shard: as many documents as fit, at least one."""
    group: list[Piece] = []
    held = 0
    for shard in corpus.shards:
        index = IndexPieces(shard)
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
                        group.append(Piece(shard, begin, first + done))
                    yield group
                    group, held, begin = [], 0, first + done
        if begin < index.num_documents:
            group.append(Piece(shard, begin, index.num_documents))
    if group:
        yield group


def _write_shard(prefix: Path, pieces: list[Piece], dtype: np.dtype, tally: Tally) -> ShardEntry:
    with ShardWriter(prefix, dtype) as writer:
        for piece in pieces:
            _copy_documents(piece, writer, tally)
    metadata = None
    if any(metadata_path(piece.shard.prefix).exists() for piece in pieces):
        digest = xxhash.xxh3_128()
        with writing(prefix), metadata_path(prefix).open("wb") as stream:
            for line in (line for piece in pieces for line in _metadata_lines(piece)):
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


def _copy_documents(piece: Piece, writer: ShardWriter, tally: Tally) -> None:
    index = IndexPieces(piece.shard)
    for documents in read_documents(piece.shard, piece.first, piece.end):
        bounds = index.bounds(documents.first, documents.first + len(documents.starts))
        lengths = index.lengths(int(bounds[0]), int(bounds[-1]))
        writer.add_documents(documents.tokens, lengths.astype(np.int64), np.diff(bounds))
        tally.advance(documents.tokens.nbytes, len(documents.tokens))


def _metadata_lines(piece: Piece) -> Iterator[bytes]:
    path = metadata_path(piece.shard.prefix)
    if not path.exists():
        raise DataError("is missing, other shards have theirs", where=path, expected="metadata of all shards or none")
    found = 0
    with path.open("rb") as stream:
        for line in islice(stream, piece.first, piece.end):
            yield line if line.endswith(b"\n") else line + b"\n"
            found += 1
    if found != piece.end - piece.first:
        raise DataError(f"ends before document {piece.end - 1}", where=path, expected="a line for each document")
