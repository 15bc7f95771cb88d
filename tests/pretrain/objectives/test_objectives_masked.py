from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from encoder_inputs import (
    CLS,
    END,
    FACTS,
    FIRST_TEXT_ID,
    MASK,
    PAD,
    ROLES,
    SEP,
    VOCAB_SIZE,
    Decoder,
    PairEncoder,
    WordTokenizer,
    assert_equal,
    assert_share,
    batches,
    encoder,
    joined,
    objective_of,
    stream_of,
)
from pydantic import ValidationError

from configs.errors import ConfigError
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.loader import BatchLoader
from pretrain.data.stream import SampleStream
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.masked import MaskedObjective
from pretrain.objectives.masked_config import MaskedConfig
from pretrain.objectives.objective import ObjectiveContext
from tests.pretrain.data.pretrain_data_corpora import random_lengths, write_corpus

SELECTIONS = ("token", "whole_word", "span")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80,000 tokens, each id once, none of them special: 1,290 samples of 62 tokens."""
    lengths = [*random_lengths(2000, at_most=80)]
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), 80_000))]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, shards=3, first_token=FIRST_TEXT_ID)


def test_it_is_known_by_name() -> None:
    assert OBJECTIVES.declaration("masked") is MaskedConfig
    assert MaskedConfig().implement() is MaskedObjective
    assert MaskedConfig().roles() == ("mask", "classification", "separator")
    assert MaskedConfig(add_special_tokens=False).roles() == ("mask",)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_a_thousand_samples_have_the_published_rates_and_give_their_source_back(path: Path, selection: str) -> None:
    config = MaskedConfig(selection=selection)  # type: ignore[arg-type]
    stream = stream_of(path, config)
    made = batches(stream, objective_of(config), 0, 1000)
    read, labels, chosen = (joined(made, name) for name in ("tokens_BS", "labels_BS", "loss_mask_BS"))
    source = stream.samples(np.arange(1000))
    assert np.array_equal(labels[:, 1:-1], source)
    assert (read[:, 0] == CLS).all() and (read[:, -1] == SEP).all() and not chosen[:, [0, -1]].any()
    assert set(np.unique(chosen).tolist()) == {0.0, 1.0}
    assert np.array_equal(np.where(chosen, labels, read)[:, 1:-1], source)
    assert np.array_equal(read[chosen == 0], labels[chosen == 0])

    per_sample = chosen.sum(axis=1)
    if selection == "whole_word":
        assert (per_sample <= 9).all() and per_sample.mean() > 8.9
        begins = FACTS.word_starts[source].copy()  # type: ignore[index]
        begins[:, 0] = True
        word = np.cumsum(begins.ravel())
        of_word = np.bincount(word, weights=chosen[:, 1:-1].ravel()) / np.maximum(1, np.bincount(word))
        assert set(of_word[1:].tolist()) == {0.0, 1.0}
    else:
        assert (per_sample == round(0.15 * 62)).all()

    at = chosen == 1
    hidden, kept = read[at] == MASK, read[at] == labels[at]
    random = read[at][~hidden & ~kept]
    # Of spans the whole span is hidden or not: fewer draws, so a wider interval.
    draws = len(read[at]) // (4 if selection == "span" else 1)
    for hits, share in ((hidden, 0.8), (kept, 0.1), (~hidden & ~kept, 0.1)):
        assert_share(round(hits.mean() * draws), draws, share)
    assert not set(random.tolist()) & set(ROLES.values())
    assert_share(int((random < VOCAB_SIZE // 2).sum()), len(random), 0.5)
    for types, name in ((torch.int64, "tokens_BS"), (torch.int64, "labels_BS"), (torch.float32, "loss_mask_BS")):
        assert getattr(made[0], name).dtype == types and getattr(made[0], name).is_contiguous()
    assert made[0].segment_ids_BS is None
    assert torch.equal(made[0].position_ids_BS, torch.arange(64).expand(50, -1))


def test_of_a_span_all_tokens_are_replaced_alike(path: Path) -> None:
    config = MaskedConfig(selection="span", replaced_by_mask=0.5, replaced_by_random=0.0, mask_rate=0.05)
    made = batches(stream_of(path, config), objective_of(config), 0, 1000)
    read, chosen = joined(made, "tokens_BS"), joined(made, "loss_mask_BS") == 1
    neighbours = chosen[:, 1:] & chosen[:, :-1]
    alike = ((read[:, 1:] == MASK) == (read[:, :-1] == MASK))[neighbours]
    assert alike.mean() > 0.9  # two spans may touch


@pytest.mark.parametrize("selection", SELECTIONS)
def test_masks_are_the_same_in_every_layout_and_after_every_resume(path: Path, selection: str) -> None:
    config = MaskedConfig(selection=selection, length_schedule=[{"from_sample": 0, "length": 32}])  # type: ignore[arg-type, list-item]
    stream, objective = stream_of(path, config), objective_of(config)
    alone = [BatchLoader(stream, objective, 16).global_batch(begin, 16)[0] for begin in (0, 16, 32)]
    names = ("tokens_BS", "labels_BS", "loss_mask_BS", "position_ids_BS")
    for data_size, size in ((1, 4), (2, 2), (2, 8), (4, 1), (4, 4)):
        for step in (2, 1):  # asked for from the middle, as a resume does
            fresh_stream, fresh = stream_of(path, config), objective_of(config)
            loaders = [BatchLoader(fresh_stream, fresh, size, rank, data_size) for rank in range(data_size)]
            found = [batch for loader in loaders for batch in loader.global_batch(16 * step, 16)]
            found.sort(key=lambda batch: batch.number)
            for name in names:
                assert np.array_equal(joined(found, name), getattr(alone[step], name).numpy())
    assert not torch.equal(alone[0].loss_mask_BS, alone[1].loss_mask_BS)


def masked_ids(stream: SampleStream, objective: MaskedObjective, begin: int, samples: int) -> set[int]:
    made = batches(stream, objective, begin, samples, samples)
    return set(joined(made, "labels_BS")[joined(made, "loss_mask_BS") == 1].tolist())


def test_masks_differ_between_epochs_and_between_seeds(path: Path) -> None:
    config = MaskedConfig()
    stream, objective = stream_of(path, config), objective_of(config)
    epoch = stream.num_samples_per_epoch
    first = masked_ids(stream, objective, 0, epoch)
    second = masked_ids(stream, objective, epoch, epoch)
    other_seed = masked_ids(stream, objective_of(config, seed=2), 0, epoch)
    for other in (second, other_seed):
        assert_share(len(first & other), len(first), 9 / 62)
    # The same positions in sample after sample would be a mask that repeats.
    chosen = joined(batches(stream, objective, 0, 1000), "loss_mask_BS")
    assert_share(int((chosen[1:] * chosen[:-1]).sum()), int(chosen[:-1].sum()), 9 / 62)


def test_an_evaluation_has_its_own_rate_and_the_same_masks_for_every_run(path: Path) -> None:
    schedules = {
        "length_schedule": [{"from_sample": 0, "length": 32}],
        "mask_rate_schedule": [{"from_sample": 0, "rate": 0.5}],
        "selection": "span",
        "replaced_by_mask": 1.0,
        "replaced_by_random": 0.0,
    }
    configs = [MaskedConfig(add_special_tokens=False), MaskedConfig(add_special_tokens=False, **schedules)]  # type: ignore[arg-type]
    assert configs[0].evaluated() == configs[1].evaluated()
    stream = stream_of(path, configs[0], endless=False, seed=0)
    first, second = (
        batches(stream, objective_of(config, seed=seed, is_evaluation=True), 0, 100)
        for seed, config in enumerate(configs)
    )
    for left, right in zip(first, second):
        assert_equal(left, right)
    assert (joined(first, "loss_mask_BS").sum(axis=1) == round(0.15 * 64)).all()
    training = batches(stream, objective_of(configs[0]), 0, 100)
    assert not np.array_equal(joined(first, "loss_mask_BS"), joined(training, "loss_mask_BS"))


def test_the_end_of_an_evaluation_set_is_padded(path: Path) -> None:
    config = MaskedConfig()
    stream = stream_of(path, config, endless=False)
    count = stream.num_samples
    assert count is not None
    total = count + 10
    made = batches(stream, objective_of(config, is_evaluation=True), 0, total, total)
    read, labels, chosen = (joined(made, name) for name in ("tokens_BS", "labels_BS", "loss_mask_BS"))
    segments = made[0].segment_ids_BS
    assert segments is not None
    padding = segments.numpy() == -1
    short = int(np.flatnonzero(padding[:count].any(axis=1))[0])
    assert padding[count:].all() and padding[:count].sum() == padding[short].sum() > 0
    assert not chosen[padding].any() and (read[padding] == PAD).all() and (labels[padding] == PAD).all()
    text = labels[~padding & (labels >= FIRST_TEXT_ID)]
    assert sorted(text.tolist()) == list(range(FIRST_TEXT_ID, FIRST_TEXT_ID + stream.parts[0].documents.num_tokens))
    end = int((~padding[short]).sum())
    assert labels[short, 0] == CLS and labels[short, end - 1] == SEP and chosen[short].sum() >= 1


@pytest.mark.parametrize("specials", [True, False])
def test_documents_apart_have_segments_and_positions_of_their_own(path: Path, specials: bool) -> None:
    config = MaskedConfig(add_special_tokens=specials)
    stream = stream_of(path, config, apart=True)
    (made,) = batches(stream, objective_of(config, documents_apart=True), 0, 500, 500)
    assert made.segment_ids_BS is not None
    for number in range(500):
        lengths = [origin.num_tokens for origin in stream.provenance(number)]
        if specials:
            lengths[0] += 1
            lengths[-1] += 1
        segments = [segment for segment, length in enumerate(lengths) for _ in range(length)]
        assert made.segment_ids_BS[number].tolist() == segments
        assert made.position_ids_BS[number].tolist() == [at for length in lengths for at in range(length)]
    assert int(made.segment_ids_BS.max()) > 2


def test_special_tokens_of_the_text_are_never_chosen(tmp_path: Path) -> None:
    config = MaskedConfig(mask_rate=1.0)
    path = write_corpus(tmp_path / "c", [40] * 100, first_token=0, repeat_tokens=12)
    made = batches(stream_of(path, config), objective_of(config), 0, 50)
    labels, chosen = joined(made, "labels_BS"), joined(made, "loss_mask_BS")
    assert np.array_equal(chosen == 1, ~np.isin(labels, list(ROLES.values())))
    assert END in labels


class FixedOutput(SimpleNamespace):
    """An output that finds every label equally hard, and the even ones likeliest."""

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.full(labels.shape, 2.0)

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        return labels % 2 == 0


def test_losses_and_figures_count_the_chosen_positions(path: Path) -> None:
    config = MaskedConfig()
    objective = objective_of(config)
    (batch,) = batches(stream_of(path, config), objective, 0, 50)
    chosen = float(batch.loss_mask_BS.sum())
    assert chosen == 50 * 9 and list(objective.coefficients) == ["mlm"]
    assert float(objective.weights(batch)["mlm"]) == chosen
    assert float(objective.losses(FixedOutput(), batch)["mlm"]) == 2 * chosen
    sums = {name: float(value) for name, value in objective.evaluation_sums(FixedOutput(), batch).items()}
    assert tuple(sums) == objective.evaluation_names
    even = float(((batch.labels_BS % 2 == 0) * batch.loss_mask_BS).sum())
    figures = objective.figures(sums)
    assert figures["loss"] == 2 and figures["masked_perplexity"] == pytest.approx(math.exp(2))
    assert figures["masked_accuracy"] == pytest.approx(even / chosen)
    assert math.isnan(objective.figures(dict.fromkeys(sums, 0.0))["loss"])


def test_what_does_not_fit_is_refused() -> None:
    assert MaskedConfig().problems(encoder()) == []
    (untrained,) = MaskedConfig().problems(PairEncoder(name="encoder", num_layers=1, hidden_size=8, seq_length=64))
    assert "expected model.pooler=false" in untrained
    (problem,) = MaskedConfig().problems(Decoder(name="gpt", num_layers=1, hidden_size=8, seq_length=64))
    assert "model.name=gpt is causal" in problem
    with pytest.raises(ValidationError, match="sum to more than 1"):
        MaskedConfig(replaced_by_mask=0.95)
    bare = ObjectiveContext(encoder(), TokenFacts(VOCAB_SIZE, ROLES), seed=1)
    MaskedObjective(MaskedConfig(), bare)
    with pytest.raises(ConfigError, match=r"objective.selection.* is span"):
        MaskedObjective(MaskedConfig(selection="span"), bare)
    with pytest.raises(ConfigError, match="'mask'"):
        MaskedObjective(MaskedConfig(add_special_tokens=False), ObjectiveContext(encoder(), TokenFacts(9), seed=1))


def test_ids_that_write_no_text_are_neither_chosen_nor_drawn() -> None:
    from pretrain.data.token_facts import TokenFacts

    class WithSpecials(WordTokenizer):
        vocab_size = 50
        sentinels = (20, 21)

        def is_special(self, token: int) -> bool:
            return token in (30, 31)

    facts = TokenFacts(64, {"mask": 5}, WithSpecials())  # type: ignore[arg-type]
    assert facts.special_ids.tolist() == [5, 20, 21, 30, 31, *range(50, 64)]
