from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from denoising_inputs import (
    END,
    FACTS,
    PAD,
    ROLES,
    SENTINELS,
    assert_function_of_the_sample_number,
    assert_shifted,
    model,
    objective_of,
    rows_of,
    stream_of,
    text_of,
)
from encoder_inputs import FIRST_TEXT_ID, VOCAB_SIZE, Decoder, batches, encoder
from pydantic import ValidationError

from configs.errors import ConfigError
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.masked_config import MaskedConfig
from pretrain.objectives.span_corruption import SpanCorruptionObjective
from pretrain.objectives.span_corruption_config import SpanCorruptionConfig
from pretrain.objectives.span_lengths import SpanNoise
from tests.pretrain.data.pretrain_data_corpora import random_lengths, write_corpus


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80,000 tokens, each id once, none of them special."""
    lengths = random_lengths(2000, at_most=80)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), 80_000))]
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, shards=3, first_token=FIRST_TEXT_ID)


def published_lengths(inputs: int, density: float, mean: float) -> tuple[int, int]:
    """The formula of the paper's program, token by token."""

    def of(tokens: int) -> tuple[int, int]:
        noise = round(tokens * density)
        spans = round(noise / mean)
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = inputs - 1
    while of(tokens + 1)[0] <= inputs:
        tokens += 1
    got, targets = of(tokens)
    if density == 0.5 and targets > got:
        return tokens - 1, targets - 1
    return tokens, targets


def test_lengths_are_those_of_the_published_program() -> None:
    assert published_lengths(512, 0.15, 3.0) == (568, 114)  # as T5 was trained
    draw = np.random.default_rng(3)
    halves = 0
    for number in range(1000):
        density = 0.5 if number % 4 == 0 else float(draw.uniform(0.05, 0.6))
        mean = float(draw.integers(2, 12)) if number % 3 else float(draw.uniform(1.6, 12))
        seq_length = int(draw.integers(250, 1500))
        noise = SpanNoise(density, mean)
        raw, targets = published_lengths(seq_length, density, mean)
        assert noise.raw_length(seq_length) == raw, (seq_length, density, mean)
        if density != 0.5:
            assert noise.input_length(raw) == seq_length
            assert noise.target_length(raw, final_sentinel=False) == targets
        else:
            halves += 1
            # The program takes the target for one shorter than it may be, and cuts it; ours is whole.
            assert seq_length - noise.input_length(raw) in (0, 1)
            assert noise.target_length(raw, final_sentinel=False) - targets in (-1, 0, 1)
        assert noise.target_length(raw, final_sentinel=True) == noise.target_length(raw, final_sentinel=False) + 1
    assert halves == 250


def test_short_texts_lose_a_token_and_keep_one() -> None:
    for density, mean in ((0.15, 3.0), (0.5, 3.0), (0.9, 9.0), (0.15, 64.0), (0.25, None)):
        noise = SpanNoise(density, mean)
        assert noise.counts(0) == noise.counts(1) == (0, 0)
        for length in range(2, 60):
            tokens, spans = noise.counts(length)
            assert 1 <= spans <= min(tokens, length - tokens) and tokens < length
        for seq_length in range(3, 60):
            raw = noise.raw_length(seq_length)
            assert raw >= 2 and noise.input_length(raw) <= seq_length
    assert [SpanNoise(0.15, 3.0).raw_length(length) for length in (1, 2)] == [0, 0]


def rebuilt(read: list[int], written: list[int]) -> list[int]:
    """The text from what a row reads and writes."""
    assert read[-1] == written[-1] == END
    at = [place for place, token in enumerate(written) if token >= VOCAB_SIZE]
    spans = {written[begin]: written[begin + 1 : end] for begin, end in zip(at, [*at[1:], -1])}
    assert [token for token in read if token >= VOCAB_SIZE] == list(spans)
    return [token for place in read[:-1] for token in spans.get(place, [place])]


def test_a_thousand_samples_have_the_published_rates_and_give_their_text_back(path: Path) -> None:
    config = SpanCorruptionConfig()
    stream, noise = stream_of(path, config), config.noise
    raw = published_lengths(64, 0.15, 3.0)[0]
    assert stream.sampling.stride_tokens == raw == 70
    made = batches(stream, objective_of(config), 0, 1000)
    source = stream.samples(np.arange(1000))
    tokens, spans = noise.counts(raw)
    assert (tokens, spans) == (10, 3)
    lengths, firsts, before = [], [], []
    for batch in made:
        assert batch.segment_ids_BS is None and tuple(batch.labels_BS.shape) == (50, 14)
        assert_shifted(batch, PAD)
    for (read, written), text in zip((row for batch in made for row in rows_of(batch)), source.tolist()):
        assert rebuilt(read, written) == text
        assert len(read) == 64 and len(written) == tokens + spans + 1
        # Unique, in order, the first `<extra_id_0>`; no final one.
        assert [token for token in written if token >= VOCAB_SIZE] == list(SENTINELS[:spans])
        at = [place for place, token in enumerate(written) if token >= VOCAB_SIZE]
        sizes = np.diff([*at, len(written) - 1]) - 1
        lengths += sizes.tolist()
        firsts.append(sizes[0])
        before.append(read.index(SENTINELS[0]))
    assert sum(lengths) == 1000 * tokens and min(lengths) == 1
    # Each composition of 10 into 3 is equally likely: a first part of k leaves C(9 - k, 1) of C(9, 2).
    check_parts(firsts, 10, 3)
    check_parts(lengths[1::3], 10, 3)
    check_parts(before, 60, 3)


def check_parts(found: list[int], total: int, parts: int) -> None:
    """That sizes of one part agree with uniform compositions: their mean and each share within 99.9 %."""
    shares = {k: math.comb(total - k - 1, parts - 2) / math.comb(total - 1, parts - 1) for k in range(1, total)}
    mean = sum(k * share for k, share in shares.items())
    variance = sum((k - mean) ** 2 * share for k, share in shares.items())
    assert mean == pytest.approx(total / parts)
    assert abs(np.mean(found) - mean) <= 3.29 * math.sqrt(variance / len(found))
    for k, share in shares.items():
        if share > 0.02:
            deviation = math.sqrt(share * (1 - share) / len(found))
            assert abs(found.count(k) / len(found) - share) <= 3.9 * deviation, k


def test_draws_are_a_function_of_the_sample_number(path: Path) -> None:
    assert_function_of_the_sample_number(path, SpanCorruptionConfig())


def test_a_final_sentinel_stands_at_the_end_of_targets() -> None:
    config = SpanCorruptionConfig(final_sentinel=True)
    assert config.target_tokens(model()) == 15 and config.num_sentinels(model()) == 4
    batch = objective_of(config).batch(text_of([70, 1, 0], 70), 0)
    full, single, empty = rows_of(batch)
    assert full[1][-2:] == [SENTINELS[3], END] and full[1].count(SENTINELS[3]) == 1
    assert single == ([FIRST_TEXT_ID, END], []) and empty == ([END], [])


def test_short_samples_are_padded_on_both_sides() -> None:
    lengths = [70, 40, 7, 2, 1, 0]
    config = SpanCorruptionConfig()
    for decoder_length in (None, 40):
        objective = objective_of(config, model(decoder_seq_length=decoder_length))
        batch = objective.batch(text_of(lengths, 70), 0)
        assert batch.labels_BS.shape == (6, decoder_length or 14)
        for length, (read, written) in zip(lengths, rows_of(batch)):
            if length < 2:
                assert written == [] and len(read) == length + 1
                continue
            assert rebuilt(read, written) == list(range(FIRST_TEXT_ID, FIRST_TEXT_ID + length))
            assert len(read) == config.noise.input_length(length)
            assert len(written) == config.noise.target_length(length, final_sentinel=False)
        assert batch.extras["decoder_position_ids_BT"].tolist() == [list(range(decoder_length or 14))] * 6
        assert batch.position_ids_BS.tolist() == [list(range(64))] * 6
        assert float(objective.weights(batch)["denoising"]) == float(batch.loss_mask_BS.sum())


class FixedOutput(SimpleNamespace):
    """An output that finds every label equally hard, and the even ones likeliest."""

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.full(labels.shape, 2.0)

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        return labels % 2 == 0


def test_losses_and_figures_count_the_labels() -> None:
    objective: Any = objective_of(SpanCorruptionConfig())
    batch = objective.batch(text_of([70, 40], 70), 0)
    labels = [label for _, written in rows_of(batch) for label in written]
    assert float(objective.losses(FixedOutput(), batch)["denoising"]) == 2 * len(labels)
    sums = {name: float(value) for name, value in objective.evaluation_sums(FixedOutput(), batch).items()}
    assert tuple(sums) == objective.evaluation_names and list(objective.coefficients) == ["denoising"]
    figures = objective.figures(sums)
    assert figures["loss"] == 2 and figures["perplexity"] == pytest.approx(math.exp(2))
    assert figures["accuracy"] == sum(label % 2 == 0 for label in labels) / len(labels)
    empty = objective.figures(dict.fromkeys(sums, 0.0))
    assert math.isnan(empty["loss"]) and empty["accuracy"] is None


def test_what_does_not_fit_is_refused() -> None:
    config = SpanCorruptionConfig()
    assert OBJECTIVES.declaration("span_corruption") is SpanCorruptionConfig
    assert config.implement() is SpanCorruptionObjective and config.roles() == ("pad", "end_of_document")
    assert config.problems(model()) == config.problems(model(decoder_seq_length=14)) == []
    (short,) = config.problems(model(decoder_seq_length=13))
    assert "up to 14 tokens at model.seq_length 64; expected at least 14, or null" in short
    (no_room,) = config.problems(model(seq_length=2))
    assert "model.seq_length 2 has no room for text" in no_room
    (masked,) = config.problems(encoder())
    assert "expected objective.name=masked, or an encoder-decoder" in masked
    (causal,) = config.problems(Decoder(name="gpt", num_layers=1, hidden_size=8, seq_length=64))
    assert "expected objective.name=causal, or an encoder-decoder" in causal
    for other in (MaskedConfig(), CausalConfig()):
        (problem,) = other.problems(model())
        assert "expected objective.name=span_corruption" in problem
    with pytest.raises(ConfigError, match=r"reset_attention_at_documents.*one target for all documents"):
        config.sampling(model(), documents_apart=True)
    with pytest.raises(ValidationError, match="mean_span_length of at least 4"):
        SpanCorruptionConfig(noise_density=0.8)


def test_a_tokenizer_without_sentinels_is_refused() -> None:
    config, roles = SpanCorruptionConfig(), {"pad": PAD, "end_of_document": END}
    for sentinels, has in (((), "none"), ((7, 8), "2")):
        facts = TokenFacts(VOCAB_SIZE, roles, sentinels=sentinels)
        with pytest.raises(ConfigError, match=rf"3 sentinels, <extra_id_0> to <extra_id_2>, .* has {has}\n") as caught:
            objective_of(config, facts=facts)
        assert "special_tokens.sentinels=100" in str(caught.value)
    assert {*SENTINELS, *ROLES.values()} <= set(FACTS.special_ids.tolist())


def test_a_target_that_ranks_cannot_share_is_refused() -> None:
    config = SpanCorruptionConfig()
    sizes = {"tensor": 3, "pipeline": 1, "data": 1}
    (problem,) = config.layout_problems(model(), sizes, sequence_parallel=True)
    assert "expected model.decoder_seq_length=15" in problem
    assert config.layout_problems(model(), sizes, sequence_parallel=False) == []
    assert config.layout_problems(model(decoder_seq_length=15), sizes, sequence_parallel=True) == []
