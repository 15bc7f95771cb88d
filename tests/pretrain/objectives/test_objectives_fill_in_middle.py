"""Fill in the middle: rows give their documents back, rates and cuts are the published ones, nothing depends on layout.

Shape letters: B samples, W tokens in each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from encoder_inputs import Decoder, Encoder, assert_equal, assert_share

from configs.errors import ConfigError
from data_prep.corpus import Corpus
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.batch import MicroBatch
from pretrain.data.documents import Documents
from pretrain.data.loader import BatchLoader
from pretrain.data.sample_index import open_index
from pretrain.data.samples import Samples
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.fill_in_middle import FillInMiddleObjective
from pretrain.objectives.fill_in_middle_config import FillInMiddleConfig
from pretrain.objectives.moved_middles import Infilling
from pretrain.objectives.objective import ObjectiveContext
from tests.pretrain.data.pretrain_data_corpora import random_lengths, write_corpus

BEGIN, END, PRE, SUF, MID, FIRST_TEXT_ID, VOCAB = 1, 2, 5, 6, 7, 10, 100_000
FACTS = TokenFacts(
    VOCAB,
    {"beginning_of_document": BEGIN, "end_of_document": END, "fim_prefix": PRE, "fim_suffix": SUF, "fim_middle": MID},
)
SEQ_LENGTH = 128
LENGTH = 30
"""Tokens of most documents, without the one that ends them."""


def model(seq_length: int = SEQ_LENGTH) -> Decoder:
    return Decoder(name="decoder", num_layers=1, hidden_size=8, seq_length=seq_length)


def objective_of(seed: int = 1, *, evaluates: bool = False, apart: bool = False, **keys: Any) -> FillInMiddleObjective:
    context = ObjectiveContext(model(), FACTS, seed, documents_apart=apart, is_evaluation=evaluates)
    return FillInMiddleObjective(FillInMiddleConfig(**keys), context)


def made_up(count: int, *, begins: bool = False) -> Samples:
    """Windows of documents that each end with END (and begin with BEGIN): most of `LENGTH` tokens, some of 0 to 200."""
    rng = np.random.default_rng(3)
    documents: list[np.ndarray] = []
    total, wanted = 0, count * SEQ_LENGTH + 1
    while total < wanted:
        length = LENGTH if rng.random() < 0.8 else int(rng.integers(0, 200))
        text = rng.integers(FIRST_TEXT_ID, VOCAB, length)
        documents.append(np.concatenate([[BEGIN] if begins else [], text, [END]]).astype(np.int64))
        total += len(documents[-1])
    flat = np.concatenate(documents)
    starts = np.zeros(len(flat), dtype=np.bool_)
    starts[np.cumsum([0, *map(len, documents[:-1])])] = True
    at = np.arange(count)[:, None] * SEQ_LENGTH + np.arange(SEQ_LENGTH + 1)
    return Samples(flat[at], np.full(count, SEQ_LENGTH + 1), np.arange(count), document_starts=starts[at])


def rows_of(batch: MicroBatch) -> np.ndarray:
    """Tokens [B, W]: what is read, and the last label."""
    return np.concatenate([batch.tokens_BS.numpy(), batch.labels_BS.numpy()[:, -1:]], axis=1)


def pieces_of(row: np.ndarray) -> list[np.ndarray]:
    """The documents of a row, each with its END."""
    ends = np.flatnonzero(row == END) + 1
    return [piece for piece in np.split(row, ends) if len(piece)]


def parts_of(piece: np.ndarray) -> tuple[str, list[np.ndarray]]:
    """Order and (front, prefix, middle, suffix, end) of a rearranged document, told by its sentinels alone.

    Written suffix first, prefix and middle are one part: they stand there as they stood in the text.
    """
    at = {token: np.flatnonzero(piece == token) for token in (PRE, SUF, MID)}
    if not len(at[PRE]):
        assert not len(at[SUF]) and not len(at[MID])
        return "plain", [piece]
    assert [len(places) for places in at.values()] == [1, 1, 1]
    pre, suf, mid = (int(places[0]) for places in at.values())
    body_end = len(piece) - (piece[-1] == END)
    end, front = piece[body_end:], piece[:pre]
    if suf == pre + 1 and mid > suf:
        # A prefix that is empty is written alike in both orders.
        return "suffix first", [front, piece[mid + 1 : body_end], piece[suf + 1 : mid], end]
    return "prefix first", [front, piece[pre + 1 : suf], piece[mid + 1 : body_end], piece[suf + 1 : mid], end]


@pytest.mark.parametrize("begins", [False, True])
def test_a_thousand_samples_give_their_documents_back(begins: bool) -> None:
    samples = made_up(1000, begins=begins)
    batch = objective_of().batch(samples, 0)
    tokens = rows_of(batch)
    assert np.array_equal(batch.tokens_BS[:, 1:].numpy(), batch.labels_BS[:, :-1].numpy())
    assert tokens.shape == samples.tokens.shape and (batch.loss_mask_BS == 1).all()
    dropped = 0
    for row, source in zip(tokens, samples.tokens):
        undone = np.concatenate([part for piece in pieces_of(row) for part in parts_of(piece)[1]])
        # What is missing is the end of the sample, and only as much as the sentinels take.
        assert np.array_equal(undone, source[: len(undone)])
        assert len(source) - len(undone) == np.isin(row, (PRE, SUF, MID)).sum()
        dropped += len(source) - len(undone)
        if begins:
            for piece in pieces_of(row)[1:]:
                assert piece[0] == BEGIN
    assert 0 < dropped / tokens.size < 0.1


def test_rate_order_and_cuts_are_the_published_ones() -> None:
    batch = objective_of().batch(made_up(1000), 0)
    rows = rows_of(batch)
    kinds, cuts = [], []
    for row in rows:
        place = 0
        for piece in pieces_of(row):
            room, place = len(row) - place, place + len(piece)
            kind, parts = parts_of(piece)
            if room < 4 or (kind == "plain" and len(piece) - (piece[-1] == END) == 0):
                continue  # no room, or nothing to cut
            whole = piece[-1] == END
            kinds.append(kind)
            if kind == "prefix first" and whole and sum(map(len, parts)) == LENGTH + 1:
                cuts.append((len(parts[1]), len(parts[2])))
    infilled = sum(kind != "plain" for kind in kinds)
    assert_share(infilled, len(kinds), 0.5)
    prefixes = np.array(cuts)[:, 0]
    assert len(cuts) > 300
    # Two cuts at one of 31 borders each; a whole document without prefix counts as written suffix first.
    with_prefix = 1 - (1 - (LENGTH / (LENGTH + 1)) ** 2)
    assert (prefixes > 0).all()
    for most in (5, 10, 20):
        share = ((LENGTH / 31) ** 2 - ((LENGTH - most) / 31) ** 2) / with_prefix
        assert_share(int((prefixes <= most).sum()), len(cuts), share)
    equal = sum(middle == 0 for _, middle in cuts)
    assert_share(equal, len(cuts), LENGTH / 31**2 / with_prefix)


def test_orders_come_at_their_rate_and_the_parts_are_a_third_each() -> None:
    samples = made_up(1000)
    infilling = Infilling(1.0, 0.25, None, END, 1)
    rows = infilling.rows(samples)
    draws = infilling._order.uniform(np.repeat(samples.numbers, 3), np.tile(np.arange(3), 1000))
    assert_share(int((draws < 0.25).sum()), 3000, 0.25)
    for rate, forbidden in ((0.0, True), (1.0, False)):
        source = Infilling(1.0, rate, None, END, 1).rows(samples).source_BW
        middles, suffixes = np.nonzero(source == -3)[1], np.nonzero(source == -2)[1]
        follows = source[np.nonzero(source == -1)[0], np.nonzero(source == -1)[1] + 1] == -2
        assert len(middles) == len(suffixes) == len(follows)
        assert follows.all() != forbidden
    is_text = rows.source_BW >= 0
    assert rows.is_middle_BW[is_text].mean() == pytest.approx(1 / 3, abs=0.02)
    assert not rows.is_middle_BW[~is_text].any()


def test_a_rate_of_0_is_the_causal_objective_and_1_leaves_no_document_as_it_is() -> None:
    samples = made_up(50)
    causal = CausalObjective(CausalConfig(), ObjectiveContext(model(), FACTS, 1))
    assert_equal(objective_of(fim_rate=0.0).batch(samples, 3), causal.batch(samples, 3))
    batch = objective_of(fim_rate=1.0).batch(samples, 3)
    for row in rows_of(batch):
        plain = [piece for piece in pieces_of(row) if parts_of(piece)[0] == "plain" and len(piece) > 1]
        assert len(plain) <= 1 and all(len(piece) <= 3 for piece in plain)


def stream_of(path: Path, *, endless: bool = True) -> SampleStream:
    sampling = FillInMiddleConfig().sampling(model(), documents_apart=False)
    corpus = Corpus.open(path)
    documents = Documents(corpus, "all", (1.0, 0.0, 0.0), path / "index")
    index = open_index(corpus, documents, sampling, 1, endless=endless)
    return SampleStream("train", [index], [1.0], sampling, VOCAB)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lengths = random_lengths(2000, at_most=80)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), 80_000))]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, shards=3, first_token=FIRST_TEXT_ID)


def test_rows_are_the_same_in_every_layout_and_after_every_resume(path: Path) -> None:
    alone = [BatchLoader(stream_of(path), objective_of(), 16).global_batch(begin, 16)[0] for begin in (0, 16, 32)]
    for data_size, size in ((1, 4), (2, 2), (2, 8), (4, 1), (4, 4)):
        for step in (2, 1):  # asked for from the middle, as a resume does
            stream, fresh = stream_of(path), objective_of()
            loaders = [BatchLoader(stream, fresh, size, rank, data_size) for rank in range(data_size)]
            found = [batch for loader in loaders for batch in loader.global_batch(16 * step, 16)]
            found.sort(key=lambda batch: batch.number)
            for name in ("tokens_BS", "labels_BS", "loss_mask_BS", "position_ids_BS"):
                assert torch.equal(torch.cat([getattr(batch, name) for batch in found]), getattr(alone[step], name))
    other = BatchLoader(stream_of(path), objective_of(seed=2), 16).global_batch(0, 16)[0]
    assert not torch.equal(other.tokens_BS, alone[0].tokens_BS)


class Priced(SimpleNamespace):
    """An output under which a label costs its own id, in nats, where the row is longer than it is not."""

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return labels.double()


def test_an_evaluation_reads_samples_as_they_stand_and_all_of_them_infilled() -> None:
    samples = made_up(40)
    short = replace(samples, num_tokens=np.where(np.arange(40) == 39, 50, samples.num_tokens))
    short.tokens[39, 50:] = 0
    objective = objective_of(evaluates=True)
    batch = objective.batch(short, 7)
    causal = CausalObjective(CausalConfig(), ObjectiveContext(model(), FACTS, 1, is_evaluation=True))
    plain = causal.batch(short, 7)
    assert batch.tokens_BS.shape == (80, SEQ_LENGTH) and batch.number == 7
    for name in ("tokens_BS", "labels_BS", "loss_mask_BS"):
        assert torch.equal(getattr(batch, name)[:40], getattr(plain, name))
    assert not batch.loss_mask_BS[40:].any()
    sums = {name: float(value) for name, value in objective.evaluation_sums(Priced(), batch).items()}  # type: ignore[arg-type]
    assert tuple(sums) == objective.evaluation_names
    expected = {name: float(value) for name, value in causal.evaluation_sums(Priced(), plain).items()}  # type: ignore[arg-type]
    assert {name: sums[name] for name in expected} == expected
    # The same labels in both forms, each once.
    assert sums["middle_nats"] == sums["middle_causal_nats"] > 0
    masks = batch.extras["middle_mask_BS"]
    for row in range(40):
        labels = [batch.labels_BS[at][masks[at] > 0].tolist() for at in (row, 40 + row)]
        assert sorted(labels[0]) == sorted(labels[1]) and not set(labels[0]) & {PRE, SUF, MID, END}
        tokens = batch.labels_BS[40 + row].numpy()
        assert (tokens[SEQ_LENGTH - 1] == 0) == (row == 39)
    assert sums["middle_tokens"] / sums["tokens"] == pytest.approx(1 / 3, abs=0.05)
    figures = objective.figures(sums)
    assert figures["loss"] == causal.figures(expected)["loss"]
    assert figures["infill_loss"] == figures["infill_causal_loss"] == sums["middle_nats"] / sums["middle_tokens"]
    dropped, text = figures["infill_dropped"], sums["text_tokens"]
    assert text == short.num_tokens.sum() and dropped is not None and 0.01 < dropped < 0.1
    no_text = objective.figures(sums | {"middle_tokens": 0.0, "text_tokens": 0.0})
    assert no_text["infill_loss"] is None and no_text["infill_dropped"] is None


def test_a_short_sample_with_room_drops_nothing() -> None:
    samples = made_up(2)
    short = replace(samples, num_tokens=np.array([60, 0]))
    rows = Infilling(1.0, 0.5, None, END, 1).rows(short)
    assert rows.dropped_B.tolist() == [0, 0]
    assert sorted(rows.source_BW[0][rows.source_BW[0] >= 0].tolist()) == list(range(60))
    assert (rows.source_BW[1] == -4).all()


def test_what_was_read_before_is_no_label_wherever_it_stands() -> None:
    samples = made_up(20)
    joined = np.zeros_like(samples.document_starts)
    joined[:, 40] = True
    starts = samples.document_starts | joined  # type: ignore[operator]
    marked = replace(samples, joined=joined, document_starts=starts)
    batch = objective_of(fim_rate=1.0).batch(marked, 0)
    rows = objective_of(fim_rate=1.0)._infilling.rows(marked)
    expected = (rows.source_BW == 40)[:, 1:]
    assert expected.any(axis=1).all()
    assert np.array_equal(batch.loss_mask_BS.numpy() == 0, expected)


def test_documents_apart_have_segments_and_positions_of_their_own() -> None:
    samples = made_up(20)
    batch = objective_of(apart=True).batch(samples, 0)
    assert batch.segment_ids_BS is not None
    for row in range(20):
        pieces = pieces_of(batch.tokens_BS[row].numpy())
        lengths = [len(piece) for piece in pieces]
        assert batch.segment_ids_BS[row].tolist() == [n for n, length in enumerate(lengths) for _ in range(length)]
        assert batch.position_ids_BS[row].tolist() == [at for length in lengths for at in range(length)]


def test_what_does_not_fit_is_refused() -> None:
    assert OBJECTIVES.declaration("fill_in_middle") is FillInMiddleConfig
    assert FillInMiddleConfig().problems(model()) == []
    (problem,) = FillInMiddleConfig().problems(Encoder(name="bert", num_layers=1, hidden_size=8, seq_length=64))
    assert "model.name=bert" in problem
    (problem,) = FillInMiddleConfig().problems(model(seq_length=7))
    assert "no room for the sentinels" in problem
    with pytest.raises(ConfigError, match=r"'fim_suffix'[\s\S]*special_tokens.fim_suffix="):
        roles = {role: number for role, number in FACTS.roles.items() if role != "fim_suffix"}
        FillInMiddleObjective(FillInMiddleConfig(), ObjectiveContext(model(), TokenFacts(VOCAB, roles), 1))


def test_an_evaluation_without_labels_is_an_error() -> None:
    objective = objective_of(evaluates=True)
    with pytest.raises(ValueError, match="no labels"):
        objective.figures(dict.fromkeys(objective.evaluation_names, 0.0))
