from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from denoising_inputs import (
    CLS,
    END,
    FACTS,
    MASK,
    PAD,
    ROLES,
    SEP,
    assert_function_of_the_sample_number,
    assert_shifted,
    model,
    objective_of,
    rows_of,
    stream_of,
    text_of,
)
from encoder_inputs import FIRST_TEXT_ID, VOCAB_SIZE, assert_share, batches, encoder, joined

from configs.errors import ConfigError, DataError
from pretrain.config.kinds import OBJECTIVES
from pretrain.data.counter_random import CounterRandom
from pretrain.data.history import DataHistory, DataPhase, MixedCorpus
from pretrain.data.token_facts import TokenFacts
from pretrain.objectives.infilling import DrawnSpans, draw_spans, infill
from pretrain.objectives.text_infilling import TextInfillingObjective
from pretrain.objectives.text_infilling_config import TextInfillingConfig
from tests.pretrain.data.pretrain_data_corpora import write_corpus
from tests.pretrain.data.sentence_shards import random_sizes, write_sentences

UNSHUFFLED = TextInfillingConfig(permute_sentences=False)
TOKENS = TextInfillingConfig(permute_sentences=False, selection="token")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lengths = [45] * 1500
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", lengths, first_token=FIRST_TEXT_ID)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = write_sentences(tmp_path_factory.mktemp("sentences") / "c", random_sizes(600, at_most_sentences=12))
    return source.corpus.path


def words_of(text: np.ndarray) -> np.ndarray:
    """Number of each token's word in its row, int64, by the rule that the tests' vocabulary has."""
    assert FACTS.word_starts is not None
    begins = FACTS.word_starts[text].copy()
    begins[:, 0] = True
    return np.cumsum(begins, axis=1) - 1


def assert_gaps(read: list[int], text: list[int], hidden: set[int]) -> int:
    """That a row is its text with at least one mask at each hidden run and none of the text lost; masks of inserts."""
    at, inserts, masks = 0, 0, 0
    for token in [*read, None]:
        if token == MASK:
            masks += 1
            continue
        runs = 0
        while at < len(text) and text[at] != token:
            assert at in hidden
            at, runs = at + 1, 1
        assert masks >= runs
        inserts += masks if not runs else 0
        at, masks = at + 1, 0
    assert at == len(text) + 1
    return inserts


@pytest.mark.parametrize("config", [UNSHUFFLED, TOKENS], ids=["words", "tokens"])
def test_a_thousand_samples_have_the_published_rates_and_give_their_text_back(
    path: Path, config: TextInfillingConfig
) -> None:
    stream = stream_of(path, config)
    assert stream.sampling.stride_tokens == 62
    made = batches(stream, objective_of(config), 0, 1000)
    source = stream.samples(np.arange(1000))
    assert np.array_equal(joined(made, "labels_BS")[:, 1:-1], source)
    hidden = joined(made, "hidden_BT")[:, 1:-1] == 1
    words = words_of(source) if config.selection == "whole_word" else np.tile(np.arange(62), (1000, 1))
    counts = words.max(axis=1) + 1
    of_word = [np.bincount(row, weights=h) / np.bincount(row) for row, h in zip(words, hidden)]
    assert {share for row in of_word for share in row.tolist()} == {0.0, 1.0}
    assert [int(row.sum()) for row in of_word] == np.ceil(counts * 0.3).astype(int).tolist()
    inserts = masks = 0
    rows = [row for batch in made for row in rows_of(batch)]
    for (read, written), text, here in zip(rows, source.tolist(), hidden):
        assert (read[0], read[-1], written[0], written[-1]) == (CLS, SEP, CLS, SEP)
        inserts += assert_gaps(read[1:-1], text, set(np.flatnonzero(here).tolist()))
        masks += read.count(MASK)
        assert Counter(read[1:-1]) - Counter([MASK] * 99) == Counter(np.array(text)[~here].tolist())
    # Means of a row's spans and of its lone inserts, and how often an end is hidden, each within 99.9 %.
    draw = np.random.default_rng(3)
    drawn = np.array([simulated(count, draw) for count in np.tile(counts, 2).tolist()])
    at_ends = [int(hidden[:, column].sum()) for column in (0, -1)]
    for found, (mean, deviation) in zip((masks, inserts, *at_ends), zip(drawn.mean(axis=0), drawn.std(axis=0))):
        assert abs(found / 1000 - mean) <= 3.29 * deviation * math.sqrt(1 / 1000 + 1 / 2000)
    for batch in made:
        assert_shifted(batch, PAD)


def simulated(words: int, draw: np.random.Generator) -> tuple[int, int, bool, bool]:
    """A row as the paper says it, one draw after the other.

    Returns its spans, its inserts that touch no other span, whether its first and its last word are hidden.
    """
    left, lengths = math.ceil(words * 0.3), []
    while left:
        lengths.append(min(int(draw.poisson(3)), left))
        left -= lengths[-1]
    slots = [-1] * (words - sum(lengths)) + lengths
    places = sorted(draw.choice(len(slots), len(lengths), replace=False).tolist())
    row = [-1] * len(slots)
    for place, length in zip(places, lengths):
        row[place] = length
    inserts = 0
    runs = "".join("." if item == -1 else ("0" if item == 0 else "1") for item in row).split(".")
    for run in runs:
        inserts += len(run) if "1" not in run else 0
    return len(lengths), inserts, row[0] > 0, row[-1] > 0


def test_lengths_are_poisson() -> None:
    random, rows = CounterRandom(1, "lengths"), 1000
    spans = draw_spans(random, np.arange(rows), np.full(rows, 200), 3.0)
    found: list[int] = []
    for words, count in zip(spans.words_RN.tolist(), spans.counts_R.tolist()):
        assert sum(words) == 200 and words[count:] == [0] * (len(words) - count) and words[count - 1] > 0
        found += words[:40]  # the last ones are those that reach the budget
    for length in range(8):
        assert_share(found.count(length), len(found), math.exp(-3) * 3**length / math.factorial(length))
    assert abs(np.mean(found) - 3) <= 3.29 * math.sqrt(3 / len(found))
    again = draw_spans(random, np.arange(500, 501), np.array([200]), 3.0)
    assert np.array_equal(again.words_RN[0], spans.words_RN[500][: again.words_RN.shape[1]])


def test_places_are_equally_likely_and_inserts_stand_between_words() -> None:
    rows = 6000
    spans = DrawnSpans(np.tile([2, 0], (rows, 1)), np.full(rows, 2))
    tokens = np.tile(np.arange(10, 14), (rows, 1))
    every = np.ones(tokens.shape, dtype=np.bool_)
    keys = CounterRandom(1, "places").bits(np.arange(rows)[:, None], np.arange(4))
    made = infill(tokens, every, every, spans, keys, MASK, PAD)
    found = Counter(tuple(row[:length]) for row, length in zip(made.packed.tokens_RN.tolist(), made.packed.lengths_R))
    # Two words and two spans in four slots: C(4, 2) arrangements; where both touch, one cannot tell which is which.
    assert len(found) == 6
    assert all(sum(token != MASK for token in row) == 2 and len(row) == 4 for row in found)
    for count in found.values():
        assert_share(count, rows, 1 / 6)


def test_draws_are_a_function_of_the_sample_number(path: Path, sentences: Path) -> None:
    assert_function_of_the_sample_number(path, UNSHUFFLED, ("hidden_BT",))
    assert_function_of_the_sample_number(sentences, TextInfillingConfig(), ("hidden_BT",))


def test_sentences_of_each_document_are_shuffled_and_documents_stay(sentences: Path) -> None:
    config = TextInfillingConfig(mask_rate=1e-9, selection="token")
    stream = stream_of(sentences, config)
    samples = stream.read(np.arange(300))
    assert samples.sentence_starts is not None and samples.document_starts is not None
    (made,) = batches(stream, objective_of(config), 0, 300, 300)
    firsts: list[int] = []
    for row, (read, written) in enumerate(rows_of(made)):
        length = int(samples.num_tokens[row])
        text = samples.tokens[row, :length]
        assert written[1:-1] == text.tolist()
        (hidden,) = np.flatnonzero(made.extras["hidden_BT"][row]).tolist()
        assert read.count(MASK) == 1
        found = [written[hidden] if token == MASK else token for token in read[1:-1]]
        starts, documents = samples.sentence_starts[row, :length], np.cumsum(samples.document_starts[row, :length])
        begin = 0
        for document in np.unique(documents).tolist():
            here = np.flatnonzero(documents == document)
            own = text[here].tolist()
            read_here = found[begin : begin + len(own)]
            begin += len(own)
            bounds = np.flatnonzero(starts[here]).tolist()
            end = len(own) - (own[-1] == END)
            parts = [own[first:behind] for first, behind in zip(bounds, [*bounds[1:], end])]
            assert bounds[0] == 0 and read_here[end:] == own[end:]
            where = [read_here.index(part[0]) for part in parts]
            order = [parts[number] for number in np.argsort(where).tolist()]
            assert [token for part in order for token in part] == read_here[:end]
            if len(parts) == 3:
                firsts.append(int(np.argmin(where)))
    assert len(firsts) > 30
    for number in range(3):
        assert_share(firsts.count(number), len(firsts), 1 / 3)


def test_short_rows_stay_in_their_room() -> None:
    for lengths in ([62, 10, 3, 2, 1, 0] * 40,):
        for specials in (True, False):
            config = TextInfillingConfig(permute_sentences=False, mean_span_length=0.5, add_special_tokens=specials)
            batch = objective_of(config).batch(text_of(lengths, 62), 0)
            assert batch.tokens_BS.shape == batch.labels_BS.shape == (240, 64)
            for length, (read, written) in zip(lengths, rows_of(batch)):
                before, after = ([CLS], [SEP]) if specials else ([], [END])
                text = list(range(FIRST_TEXT_ID, FIRST_TEXT_ID + length))
                assert written == ([*before, *text, *after] if length else [])
                assert read[: len(before)] == before and read[-1] == after[0] and len(read) <= length + 1 + len(before)
                assert (MASK in read) == (length > 0)


def test_how_sentences_were_cut_comes_back_from_a_checkpoint() -> None:
    cutting = TextInfillingConfig().sampling(model(), documents_apart=False)
    assert cutting.marks_sentences and not UNSHUFFLED.sampling(model(), documents_apart=False).marks_sentences
    phase = DataPhase(0, 0, 64, cutting, (1.0, 0.0, 0.0), (MixedCorpus("fingerprint", "path", 1.0),))
    history = DataHistory(1, (phase,))
    assert DataHistory.decode(json.loads(json.dumps(history.encode()))) == history


class FixedOutput:
    """An output that finds each label as hard as its place."""

    logits_are_there = True

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        assert self.logits_are_there
        self.logits_are_there = False  # as megatron-core's loss leaves them
        return torch.arange(labels.shape[1]).expand_as(labels).float()

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        assert self.logits_are_there
        return labels % 2 == 0


def test_the_hidden_labels_have_a_figure_of_their_own() -> None:
    objective = objective_of(TOKENS)
    batch = objective.batch(text_of([62, 20], 62), 0)
    sums = {name: float(value) for name, value in objective.evaluation_sums(FixedOutput(), batch).items()}
    assert tuple(sums) == objective.evaluation_names and sums["hidden_tokens"] == 19 + 6
    places = np.nonzero(batch.extras["hidden_BT"].numpy())[1]
    figures = objective.figures(sums)
    assert figures["infilled_loss"] == pytest.approx(places.mean()) and figures["loss"] != figures["infilled_loss"]
    assert objective.figures(dict.fromkeys(sums, 0.0))["infilled_loss"] is None


def test_what_does_not_fit_is_refused(path: Path) -> None:
    config = TextInfillingConfig()
    assert OBJECTIVES.declaration("text_infilling") is TextInfillingConfig
    assert config.implement() is TextInfillingObjective
    assert config.roles() == ("pad", "mask", "classification", "separator")
    assert TextInfillingConfig(add_special_tokens=False).roles() == ("pad", "mask", "end_of_document")
    assert config.problems(model()) == [] and config.target_length(model(decoder_seq_length=70)) == 70
    (short,) = config.problems(model(decoder_seq_length=63))
    assert "expected at least 64, or null" in short
    (no_room,) = config.problems(model(seq_length=2))
    assert "no room for text" in no_room and "expected objective.name=masked" in config.problems(encoder())[0]
    bare = TokenFacts(VOCAB_SIZE, ROLES)
    with pytest.raises(ConfigError, match=r"objective.selection: is whole_word, .* no tokenizer"):
        objective_of(UNSHUFFLED, facts=bare)
    objective_of(TOKENS, facts=bare)
    with pytest.raises(DataError, match="sentences=true"):
        stream_of(path, config)
    with pytest.raises(ConfigError, match="reset_attention_at_documents"):
        config.sampling(model(), documents_apart=True)
