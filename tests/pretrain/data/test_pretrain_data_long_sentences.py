from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import CheckpointError
from pretrain.checkpoint.compatibility import check_compatible
from pretrain.config.sampling import PairSampleCutting
from pretrain.data.evaluation_set import difference
from pretrain.data.long_sentences import DrawnCuts, EvenCuts
from pretrain.data.run_data import RunData
from tests.pretrain.data.sentence_shards import VOCAB_SIZE, random_sizes, write_sentences
from tests.pretrain.tiny_run import BERT, tiny_config


def test_long_sentences_are_cut_at_places_that_follow_from_sentence_and_seed() -> None:
    tokens = np.array([1, 20, 21, 22, 40, 61, 700, 20, 5000])
    place = np.cumsum(tokens) + 5
    sizes, parts = DrawnCuts(20, seed=1).pieces(place, tokens)
    assert parts[tokens <= 20].tolist() == [1, 1, 1]
    bounds = np.cumsum([0, *parts]).tolist()
    of_sentence = [sizes[begin:end] for begin, end in pairwise(bounds)]
    assert [piece.sum() for piece in of_sentence] == tokens.tolist()
    for piece in of_sentence[2:7] + of_sentence[8:]:
        assert piece.min() >= 5 and piece.max() <= 20
    assert abs(of_sentence[-1].mean() - 12.5) < 4 * (16**2 / 12 / 400) ** 0.5
    # Alone, and among others, the same; of another seed or at another place, not.
    for number in range(len(tokens)):
        alone, _ = DrawnCuts(20, seed=1).pieces(place[number : number + 1], tokens[number : number + 1])
        assert np.array_equal(alone, of_sentence[number])
    assert not np.array_equal(DrawnCuts(20, seed=2).pieces(place, tokens)[0][-100:], sizes[-100:])
    assert not np.array_equal(DrawnCuts(20, seed=1).pieces(place + 1, tokens)[0][-100:], sizes[-100:])


@settings(max_examples=60)
@given(tokens=st.lists(st.integers(1, 90), max_size=20), longest=st.integers(1, 40), seed=st.integers(0, 9))
def test_every_cut_gives_all_tokens_in_pieces_that_are_not_too_long(tokens: list[int], longest: int, seed: int) -> None:
    lengths = np.array(tokens, dtype=np.int64)
    for cuts in (DrawnCuts(longest, seed), EvenCuts(longest)):
        sizes, parts = cuts.pieces(np.cumsum(lengths), lengths)
        assert np.bincount(np.arange(len(parts)).repeat(parts), sizes, len(parts)).tolist() == tokens
        assert ((sizes >= 1) & (sizes <= longest)).all() and (parts[lengths <= longest] == 1).all()


def test_a_run_that_was_cut_otherwise_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When it resumes, and when its validations are compared; a stream of tokens has no such rule."""
    source = write_sentences(tmp_path / "corpus", random_sizes(200))
    np.save(
        source.corpus.path / "token_counts.npy", np.eye(1, VOCAB_SIZE, dtype=np.int64)[0] * source.corpus.num_tokens
    )
    config = tiny_config(tmp_path, source.corpus.path, **BERT)
    now = RunData.open(config, tokenizer_required=False)
    with monkeypatch.context() as patch:
        patch.setattr(PairSampleCutting, "rule", None)
        before = RunData.open(config, tokenizer_required=False)
    saved = {"config": config.model_dump(mode="json"), "data_fingerprint": before.fingerprint}
    with pytest.raises(
        CheckpointError, match=r"(?s)data\.cutting +null +long sentences.*allow_changes=\[data\.cutting\]"
    ):
        check_compatible(saved, config, now.fingerprint, None)
    accepted = check_compatible(saved, config, now.fingerprint, None, ["data.cutting"])
    assert len(accepted) == 1 and accepted[0].startswith("data.cutting: null -> long sentences")
    one, other = (data.evaluation_sets["validation"] for data in (before, now))
    assert one["fingerprint"] != other["fingerprint"]
    assert difference(one, other).startswith("cutting None -> long sentences")
    stream = tiny_config(tmp_path, source.corpus.path)
    assert "cutting" not in RunData.open(stream, tokenizer_required=False).fingerprint
