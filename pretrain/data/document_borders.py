"""Which token ids stand at the borders of documents in the corpora of a run: what a reader of its model begins with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from data_prep.corpus import Corpus

_LOOKED_AT = 1024  # documents of each shard of a corpus that does not say it


@dataclass(frozen=True)
class DocumentBorders:
    """The ids that every document of a training set has at its ends.

    Attributes:
        begin_id: that begins every document; None: none does.
        end_id: that ends every document; None: none does.
    """

    begin_id: int | None
    end_id: int | None


def document_borders(corpora: Iterable[Corpus], roles: Mapping[str, int]) -> DocumentBorders:
    """What all of `corpora` have in common.

    A corpus that `tokenize` made says it. A bare Megatron prefix does not: there, the first and last token of documents
    spread over each shard have to be the token of the role.

    Args:
        corpora: at least one.
        roles: id of each role that the tokenizer has.

    Raises:
        DataError: if the index of a bare prefix is damaged.
    """
    found = {_borders_of(corpus, roles) for corpus in corpora}
    begins, ends = {borders.begin_id for borders in found}, {borders.end_id for borders in found}
    return DocumentBorders(begins.pop() if len(begins) == 1 else None, ends.pop() if len(ends) == 1 else None)


def _borders_of(corpus: Corpus, roles: Mapping[str, int]) -> DocumentBorders:
    if corpus.manifest is not None:
        return DocumentBorders(corpus.manifest.beginning_of_document, corpus.manifest.end_of_document)
    firsts: set[int] = set()
    lasts: set[int] = set()
    for shard in corpus.shards:
        offsets = shard.document_offsets
        held = np.flatnonzero(np.diff(offsets))
        chosen = held[np.linspace(0, len(held) - 1, min(_LOOKED_AT, len(held))).astype(np.int64)]
        firsts |= set(shard.tokens[offsets[chosen]].tolist())
        lasts |= set(shard.tokens[offsets[chosen + 1] - 1].tolist())
    begin, end = roles.get("beginning_of_document"), roles.get("end_of_document")
    return DocumentBorders(begin if firsts == {begin} else None, end if lasts == {end} else None)
