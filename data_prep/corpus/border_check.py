"""Whether the ids that begin and end documents stand where documents begin and end, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from data_prep.corpus.shard_problems import Problems


def check_starts(
    tokens: np.ndarray, begin: int, starts: np.ndarray, beginning_id: int, path: Path, problems: Problems
) -> None:
    """See that documents, and nothing else, begin with the beginning-of-document id.

    Args:
        tokens: a piece of a shard.
        begin: the number of its first token.
        starts: the numbers of the tokens in it that documents begin with.
        beginning_id: the id.
        path: of the shard's tokens.
        problems: what is wrong is added to them.
    """
    found = np.flatnonzero(tokens == beginning_id) + begin
    for kind, wrong, text in (
        ("beginning of document missing", np.setdiff1d(starts, found), "begins a document without that id"),
        ("beginning of document within", np.setdiff1d(found, starts), "is that id within a document"),
    ):
        texts = [f"token {at:,} {text} ({beginning_id})" for at in wrong[: problems.limit].tolist()]
        problems.add_many(path, kind, texts, len(wrong))


def check_ends(
    tokens: np.ndarray, begin: int, first: int, stops: np.ndarray, end_id: int, path: Path, problems: Problems
) -> None:
    """See that documents, and nothing else, end with the end-of-document id, and that none is empty.

    Args:
        tokens: a piece of a shard.
        begin: the number of its first token.
        first: the number of the first document that ends in it.
        stops: the numbers of the tokens after those documents.
        end_id: the id.
        path: of the shard's tokens.
        problems: what is wrong is added to them.
    """
    found = np.flatnonzero(tokens == end_id) + begin
    if len(found) == len(stops) and np.array_equal(found, stops - 1):
        return
    empty = np.diff(stops, prepend=begin) == 0
    missing = np.flatnonzero(~empty & ~np.isin(stops - 1, found))
    stray = np.setdiff1d(found, stops - 1)
    limit = problems.limit
    texts = [
        f"document {first + i:,} does not end with the end-of-document id (token {int(stops[i]) - 1:,})"
        for i in missing[:limit].tolist()
    ]
    problems.add_many(path, "end of document missing", texts, len(missing))
    texts = [f"token {at:,} is the end-of-document id within a document" for at in stray[:limit].tolist()]
    problems.add_many(path, "end of document within", texts, len(stray))
    bare = np.flatnonzero(empty)
    texts = [f"document {first + i:,} is empty, without even an end-of-document id" for i in bare[:limit].tolist()]
    problems.add_many(path, "empty document", texts, len(bare))
