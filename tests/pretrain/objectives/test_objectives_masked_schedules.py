from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from encoder_inputs import CLS, FIRST_TEXT_ID, SEP, batches, encoder, joined, objective_of, stream_of
from pydantic import ValidationError

from pretrain.data.loader import BatchLoader
from pretrain.objectives.masked_config import MaskedConfig
from tests.pretrain.data.pretrain_data_corpora import write_corpus

LENGTHS = [{"from_sample": 0, "length": 16}, {"from_sample": 20, "length": 32}, {"from_sample": 48, "length": 64}]


def scheduled(**keys: object) -> MaskedConfig:
    return MaskedConfig.model_validate({"length_schedule": LENGTHS} | keys)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", [45] * 200, first_token=FIRST_TEXT_ID)


def test_a_short_stretch_splits_samples_into_rows_and_keeps_their_tokens(path: Path) -> None:
    config = scheduled(add_special_tokens=False)
    stream, objective = stream_of(path, config), objective_of(config)
    assert stream.sampling.stride_tokens == 64
    loader = BatchLoader(stream, objective, 4)
    for begin, length in ((0, 16), (8, 16), (16, 16), (24, 32), (40, 32), (48, 64), (10**6, 64)):
        made = loader.global_batch(begin, 8)
        rows = 4 * 64 // length
        assert [tuple(batch.tokens_BS.shape) for batch in made] == [(rows, length)] * 2
        source = stream.samples(np.arange(begin, begin + 8))
        assert np.array_equal(joined(made, "labels_BS").reshape(8, 64), source)
        assert (joined(made, "loss_mask_BS").sum(axis=1) == round(0.15 * length)).all()
        assert all(batch.segment_ids_BS is None for batch in made)
        assert np.array_equal(joined(made, "position_ids_BS")[0], np.arange(length))


def test_the_step_that_begins_before_a_stage_keeps_its_length_in_all_micro_batches(path: Path) -> None:
    config = scheduled(add_special_tokens=False)
    loader = BatchLoader(stream_of(path, config), objective_of(config), 2)
    lengths = [{batch.tokens_BS.shape[1] for batch in loader.global_batch(begin, 8)} for begin in (16, 24)]
    assert lengths == [{16}, {32}]  # samples 20 to 23 belong to a step that began at 16


def test_with_special_tokens_each_row_has_its_own_and_no_token_is_lost(path: Path) -> None:
    config = scheduled()
    stream, objective = stream_of(path, config), objective_of(config)
    assert stream.sampling.stride_tokens == 64 - 2 * 4
    for begin, length in ((0, 16), (24, 32), (48, 64)):
        (made,) = batches(stream, objective, begin, 8, 8)
        labels = made.labels_BS.numpy()
        assert labels.shape == (8 * 64 // length, length) and (labels[:, 0] == CLS).all()
        assert (np.sum(labels == SEP, axis=1) == 1).all()
        assert np.array_equal(
            labels[labels >= FIRST_TEXT_ID].reshape(8, -1), stream.samples(np.arange(begin, begin + 8))
        )
        padding = 0 if made.segment_ids_BS is None else int((made.segment_ids_BS == -1).sum())
        assert padding == 8 * (64 - 56 - 2 * 64 // length)


def test_documents_begin_anew_in_each_row(path: Path) -> None:
    config = scheduled(add_special_tokens=False)
    stream = stream_of(path, config, apart=True)
    (made,) = batches(stream, objective_of(config, documents_apart=True), 0, 8, 8)
    assert made.segment_ids_BS is not None
    assert (made.segment_ids_BS[:, 0] == 0).all() and (made.position_ids_BS[:, 0] == 0).all()
    for row, (labels, segments) in enumerate(zip(made.labels_BS.tolist(), made.segment_ids_BS.tolist())):
        documents = [(label - FIRST_TEXT_ID) // 45 for label in labels]
        borders = [column for column in range(1, 16) if documents[column] != documents[column - 1]]
        assert borders == [column for column in range(1, 16) if segments[column] != segments[column - 1]], row


def test_the_mask_rate_is_a_function_of_the_sample_number(path: Path) -> None:
    stages = [{"from_sample": 10, "rate": 0.5}, {"from_sample": 30, "rate": 0.25}]
    config = MaskedConfig.model_validate({"mask_rate": 1.0, "mask_rate_schedule": stages, "add_special_tokens": False})
    # A micro-batch over both borders: each sample has its own rate.
    (made,) = batches(stream_of(path, config), objective_of(config), 0, 50)
    assert made.loss_mask_BS.sum(1).tolist() == [64.0] * 10 + [32.0] * 20 + [16.0] * 20


def test_lengths_that_do_not_fit_are_refused() -> None:
    assert scheduled().lengths(encoder()) == (64, 32, 16)
    assert MaskedConfig().lengths(encoder()) == (64,)
    assert scheduled().problems(encoder()) == []

    def problems(length: int, **keys: object) -> list[str]:
        return scheduled(length_schedule=[{"from_sample": 0, "length": length}], **keys).problems(encoder())

    for length in (24, 128):
        (problem,) = problems(length)
        assert f"has the length {length}, which is not model.seq_length 64 divided by a whole number" in problem
    assert "rows of 2 tokens have no room" in problems(2)[0]
    assert problems(2, add_special_tokens=False) == []
    for stages in ([LENGTHS[1], LENGTHS[0]], [LENGTHS[0], LENGTHS[0]]):
        with pytest.raises(ValidationError, match="expected rising sample numbers"):
            scheduled(length_schedule=stages)
