from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from denoising_inputs import (
    CLS,
    END,
    MASK,
    PAD,
    ROLES,
    SENTINELS,
    SEP,
    assert_function_of_the_sample_number,
    assert_shifted,
    model,
    objective_of,
    rows_of,
    stream_of,
    text_of,
)
from encoder_inputs import FIRST_TEXT_ID, assert_share, batches, encoder, joined
from pydantic import ValidationError

from pretrain.config.kinds import OBJECTIVES
from pretrain.objectives.masked_sequence import MaskedSequenceObjective
from pretrain.objectives.masked_sequence_config import MaskedSequenceConfig
from tests.pretrain.data.pretrain_data_corpora import write_corpus


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", [45] * 1500, first_token=FIRST_TEXT_ID)


def test_a_thousand_samples_have_the_published_rates_and_give_their_text_back(path: Path) -> None:
    config = MaskedSequenceConfig()
    stream = stream_of(path, config)
    made = batches(stream, objective_of(config), 0, 1000)
    source = stream.samples(np.arange(1000))
    names = ("tokens_BS", "labels_BS", "decoder_position_ids_BT", "cross_visible_BS")
    read, labels, positions, visible = (joined(made, name) for name in names)
    assert source.shape[1] == 62 and labels.shape == (1000, 31) and visible.dtype == np.bool_
    assert (read[:, 0] == CLS).all() and (read[:, -1] == SEP).all() and all(b.segment_ids_BS is None for b in made)
    for batch in made:
        assert_shifted(batch, PAD)
        assert float(batch.loss_mask_BS.sum()) == 50 * 31
    # One fragment of half of the text, at the places that its positions say, hidden from the decoder.
    assert (np.diff(positions, axis=1) == 1).all() and positions.min() >= 1 and positions.max() <= 62
    assert ((~visible).sum(axis=1) == 31).all()
    assert not np.take_along_axis(visible, positions, axis=1).any()
    put_back = read.copy()
    np.put_along_axis(put_back, positions, labels, axis=1)
    assert np.array_equal(put_back[:, 1:-1], source)
    assert np.array_equal(read[visible], put_back[visible])
    # 32 fragments, each equally likely.
    for begin in (1, 2, 17, 32):
        assert_share(int((positions[:, 0] == begin).sum()), 1000, 1 / 32)
    shown = np.take_along_axis(read, positions, axis=1)
    masked, kept = shown == MASK, shown == labels
    for hits, share in ((masked, 0.8), (kept, 0.1), (~masked & ~kept, 0.1)):
        assert_share(int(hits.sum()), hits.size, share)
    assert not {*ROLES.values(), *SENTINELS} & set(shown[~masked & ~kept].tolist())


def test_draws_are_a_function_of_the_sample_number(path: Path) -> None:
    assert_function_of_the_sample_number(path, MaskedSequenceConfig(fragment_rate=0.3), ("cross_visible_BS",))


def test_short_samples_are_padded_on_both_sides() -> None:
    lengths = [62, 40, 7, 1, 0]
    for specials in (True, False):
        config = MaskedSequenceConfig(add_special_tokens=specials, replaced_by_mask=1, replaced_by_random=0)
        objective = objective_of(config, model(decoder_seq_length=40))
        batch = objective.batch(text_of(lengths, 63 - specials), 0)
        before = int(specials)
        for row, (length, (read, written)) in enumerate(zip(lengths, rows_of(batch))):
            text = list(range(FIRST_TEXT_ID, FIRST_TEXT_ID + length))
            size = max(round(length / 2), 1) if length else 0
            assert len(written) == size and read.count(MASK) == size
            positions = batch.extras["decoder_position_ids_BT"][row].tolist()
            assert [text[at - before] for at in positions[:size]] == written and max(positions) <= max(length, 1)
            filled = iter(written)
            whole = [next(filled) if token == MASK else token for token in read]
            assert whole == [*([CLS] if specials else []), *text, SEP if specials else END]
            visible = batch.extras["cross_visible_BS"][row]
            assert int(visible.sum()) == len(read) - size > 0 and not visible[len(read) :].any()


def test_a_fragment_of_everything_leaves_the_ends_to_see() -> None:
    batch = objective_of(MaskedSequenceConfig(fragment_rate=1.0)).batch(text_of([62], 62), 0)
    assert torch.nonzero(batch.extras["cross_visible_BS"][0]).flatten().tolist() == [0, 63]


def test_what_does_not_fit_is_refused() -> None:
    config = MaskedSequenceConfig()
    assert OBJECTIVES.declaration("masked_sequence") is MaskedSequenceConfig
    assert config.implement() is MaskedSequenceObjective
    assert config.roles() == ("pad", "mask", "classification", "separator")
    assert config.problems(model()) == [] and config.target_length(model()) == 31
    assert "count the decoder's positions from 0" in config.notes()[0]
    (short,) = config.problems(model(decoder_seq_length=30))
    assert "expected at least 31, or null" in short
    assert "no room for text" in config.problems(model(seq_length=2))[0]
    assert "expected objective.name=masked" in config.problems(encoder())[0]
    with pytest.raises(ValidationError, match="sum to more than 1"):
        MaskedSequenceConfig(replaced_by_mask=0.95)
