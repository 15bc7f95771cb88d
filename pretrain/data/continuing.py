"""How a run goes on reading its corpora after its data settings were changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import CheckpointError
from pretrain.config.objective import SampleCutting
from pretrain.data.history import DataHistory
from pretrain.data.sample_index import Continuing, SampleIndex, open_index

if TYPE_CHECKING:
    from data_prep.corpus import Corpus
    from pretrain.data.documents import Documents


def continued_index(
    corpus: Corpus, documents: Documents, sampling: SampleCutting, history: DataHistory
) -> tuple[SampleIndex, int]:
    """The training samples of a corpus that were not read before, and how many of the index were.

    Args:
        corpus: where the tokens are.
        documents: its training part.
        sampling: how it is to be cut from now on.
        history: up to now.

    Raises:
        ValueError: if the documents do not hold one sample.
        CheckpointError: if what is left of an epoch cannot be cut so.
    """
    wanted = replace(sampling, marks_documents=False)
    readings = [reading for reading in history.readings(corpus.fingerprint) if reading.samples]
    cuttings = [*(reading.sampling for reading in readings), wanted]
    index = open_index(corpus, documents, cuttings[0], history.seed, endless=True)
    given = 0
    for reading, following in zip(readings, cuttings[1:]):
        given += reading.samples
        if following == reading.sampling:
            continue
        try:
            if not isinstance(index, Continuing):
                raise ValueError(f"its index {reading.sampling.index} cannot cut the rest of an epoch anew")
            index, given = index.continued(following, given), 0
        except ValueError as problem:
            raise CheckpointError(
                f"{given:,} samples of it were trained on; {problem}",
                where=corpus.path,
                expected="the model.seq_length and the objective that the epoch was begun with, or another output",
            ) from None
    return index, given


def check_split(
    history: DataHistory, split: tuple[float, float, float], beginnings: Mapping[Path, Sequence[str]]
) -> None:
    """Refuse a split under which documents that were trained on are held out, or the other way round.

    Args:
        history: up to now.
        split: the shares from now on.
        beginnings: `Corpus.beginnings` of all corpora that are read from now on, by path: one that grew has the
            documents that were trained on under the same numbers.

    Raises:
        CheckpointError: if a corpus that was trained on would have another training part.
    """
    for path, fingerprints in beginnings.items():
        # By its own content first: an older version let a corpus that grew have another split.
        trained = history.trained_split(fingerprints[-1:]) or history.trained_split(fingerprints)
        if trained is None or trained[0] == split[0]:
            continue
        if split[0] < trained[0]:
            happens = f"{trained[0] - split[0]:.1%} of its documents were trained on and would be held out"
        else:
            happens = f"{split[0] - trained[0]:.1%} of its documents were held out and would be trained on"
        raise CheckpointError(
            f"is {list(split)}, but {path} was trained on with {list(trained)}: {happens}",
            where="data.split",
            expected=f"{trained[0]:g} as the share that trains, the others as you like; more held-out text may"
            " come from other corpora, named in data.validation and data.test",
        )
