"""What stands between documents is what the corpora hold, not what the tokenizer could write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pretrain_data_corpora import run_config, write_corpus

from data_prep.corpus import Corpus
from data_prep.corpus.shard_writer import ShardWriter
from pretrain.data.document_borders import DocumentBorders, document_borders
from pretrain.data.run_data import RunData

ROLES = {"beginning_of_document": 1, "end_of_document": 2}


def bare(prefix: Path, documents: Sequence[Sequence[int]]) -> Corpus:
    """A Megatron prefix with these documents."""
    lengths = np.array([len(document) for document in documents], dtype=np.int64)
    with ShardWriter(prefix, np.dtype("<i4")) as writer:
        writer.add_documents(np.concatenate(documents).astype("<i4"), lengths)
    return Corpus.open(prefix)


@pytest.mark.parametrize(
    ("documents", "begin_id", "end_id"),
    [
        ([[5, 6, 2], [7, 2], [], [8, 9, 2]], None, 2),
        ([[1, 5, 6], [1, 7]], 1, None),
        ([[1, 5, 2], [1, 7, 2]], 1, 2),
        ([[5, 6, 2], [7, 8]], None, None),
        ([[5, 6], [5, 7]], None, None),
        ([[]], None, None),
    ],
    ids=["end", "begin", "both", "not all", "another token", "no text"],
)
def test_of_a_megatron_prefix(
    documents: list[list[int]], begin_id: int | None, end_id: int | None, tmp_path: Path
) -> None:
    assert document_borders([bare(tmp_path / "x", documents)], ROLES) == DocumentBorders(begin_id, end_id)
    assert document_borders([bare(tmp_path / "y", documents)], {}) == DocumentBorders(None, None)


def test_one_document_in_a_thousand_is_seen_at_any_place(tmp_path: Path) -> None:
    for place in (0, 499, 999):
        documents = [[5, 2]] * 1000
        documents[place] = [5, 6]
        assert document_borders([bare(tmp_path / str(place), documents)], ROLES).end_id is None


def test_corpora_that_differ_have_nothing_in_common(tmp_path: Path) -> None:
    ended, open_ended = bare(tmp_path / "a", [[5, 2]]), bare(tmp_path / "b", [[5, 6]])
    assert document_borders([ended, ended], ROLES).end_id == 2
    assert document_borders([ended, open_ended], ROLES).end_id is None


def test_a_run_knows_what_its_manifest_says(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", [50] * 200)
    data = RunData.open(
        run_config(tmp_path, {"train": str(corpus), "split": [0.8, 0.1, 0.1]}), tokenizer_required=False
    )
    assert data.document_borders == DocumentBorders(None, 3)
