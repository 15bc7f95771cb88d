from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from encoder_inputs import (
    CLS,
    MASK,
    PAD,
    ROLES,
    SEP,
    Decoder,
    Encoder,
    PairEncoder,
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
from pretrain.config.sampling import SENTENCE_PAIRS
from pretrain.data.batch import MicroBatch
from pretrain.data.loader import BatchLoader
from pretrain.data.run_data import RunData
from pretrain.data.stream import SampleStream
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.pair import MaskedPairsObjective
from pretrain.objectives.pair_config import MaskedPairsConfig
from tests.pretrain.data.sentence_shards import SentenceCorpus, random_sizes, write_sentences
from tests.pretrain.tiny_run import BERT, make_corpus, tiny_config

KINDS = ("next_sentence", "sentence_order")
NAMES = ("tokens_BS", "labels_BS", "loss_mask_BS", "segment_ids_BS", "token_types_BS", "pair_labels_B")


def pair_encoder(seq_length: int = 64) -> PairEncoder:
    return PairEncoder(name="encoder", num_layers=1, hidden_size=8, seq_length=seq_length)


def config_of(kind: str, **keys: object) -> MaskedPairsConfig:
    return MaskedPairsConfig.model_validate({"name": "masked_pairs", "pairs": kind} | keys)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> SentenceCorpus:
    """About 2,000 pairs of 61 tokens."""
    sizes = random_sizes(300, at_most_sentences=60, mean_tokens=8)
    return write_sentences(tmp_path_factory.mktemp("corpus") / "c", sizes, shards=2)


@pytest.fixture(scope="module")
def even(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two long documents of sentences of 5 tokens: hardly a run meets a document's end."""
    return write_sentences(tmp_path_factory.mktemp("corpus") / "c", [[5] * 8000] * 2).corpus.path


def made_of(path: Path, kind: str, count: int = 1000, **keys: object) -> tuple[list[MicroBatch], SampleStream]:
    config = config_of(kind, **keys)
    stream = stream_of(path, config)
    return batches(stream, objective_of(config), 0, count), stream


def test_it_is_known_by_name() -> None:
    assert OBJECTIVES.declaration("masked_pairs") is MaskedPairsConfig
    assert MaskedPairsConfig().implement() is MaskedPairsObjective
    assert MaskedPairsConfig().roles() == ("mask", "classification", "separator")


@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_pairs_have_their_form_and_give_their_source_back(source: SentenceCorpus, kind: str) -> None:
    made, stream = made_of(source.corpus.path, kind)
    tokens, labels, chosen, segments, types, pair_labels = (joined(made, name) for name in NAMES)
    shards = {shard.prefix: shard for shard in source.corpus.shards}
    for row in range(1000):
        texts = [
            shards[o.shard].document(o.document, o.offset_tokens, o.num_tokens).tolist() for o in stream.provenance(row)
        ]
        expected = [CLS]
        for text in texts:
            expected += [*text, SEP]
        padding = 64 - len(expected)
        assert labels[row].tolist() == expected + [PAD] * padding
        assert segments[row].tolist() == [0] * len(expected) + [-1] * padding
        first = len(texts[0]) + 2
        assert types[row].tolist() == [0] * first + [1] * (len(expected) - first) + [0] * padding
        assert (pair_labels[row] == -1) == (len(texts) == 1)
        assert chosen[row].sum() == max(1, round(0.15 * sum(map(len, texts))))
    assert np.array_equal(np.where(chosen, labels, tokens), labels)
    assert not chosen[np.isin(labels, list(ROLES.values()))].any()
    read, original = tokens[chosen == 1], labels[chosen == 1]
    assert_share(int((read == MASK).sum()), len(read), 0.8)
    assert_share(int((read == original).sum()), len(read), 0.1)
    batch = made[0]
    assert batch.extras["token_types_BS"].dtype == batch.extras["pair_labels_B"].dtype == torch.int64
    assert batch.segment_ids_BS is not None and batch.segment_ids_BS.dtype == torch.int64
    assert torch.equal(batch.position_ids_BS, torch.arange(64).expand(50, -1))


@pytest.mark.parametrize("kind", KINDS)
def test_labels_are_even_and_one_pair_in_ten_is_short(even: Path, kind: str) -> None:
    made, _ = made_of(even, kind)
    labels, segments = joined(made, "pair_labels_B"), joined(made, "segment_ids_BS")
    assert_share(int((labels == 1).sum()), 1000, 0.5)
    lengths = (segments == 0).sum(axis=1) - 3
    # Full ones hold 12 sentences of 5 tokens; a target from 2 to 55 of the 60 equally likely ones gives fewer.
    assert lengths.max() == 60
    assert_share(int((lengths < 60).sum()), 1000, 0.1 * 54 / 60)
    many, _ = made_of(even, kind, short_rate=1.0)
    short = (joined(many, "segment_ids_BS") == 0).sum(axis=1) - 3
    assert_share(int((short == 10).sum()), 1000, 9 / 60)  # targets 2 to 10: a run has two sentences
    for length in (15, 35, 55):
        assert_share(int((short == length).sum()), 1000, 5 / 60)
    # Where the first part ends is random.
    firsts = (joined(made, "token_types_BS")[lengths == 60] == 0).argmin(axis=1) - 2
    for tokens in (5, 30, 55):
        assert_share(int((firsts == tokens).sum()), len(firsts), 1 / 11)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_are_the_same_in_every_layout_and_after_every_resume(source: SentenceCorpus, kind: str) -> None:
    config = config_of(kind, selection="whole_word")
    stream, objective = stream_of(source.corpus.path, config), objective_of(config)
    begins = (0, 16, 10_000)
    alone = [BatchLoader(stream, objective, 16).global_batch(begin, 16)[0] for begin in begins]
    for data_size, size in ((1, 4), (2, 8), (4, 2)):
        for step in (2, 1, 0):
            fresh_stream, fresh = stream_of(source.corpus.path, config), objective_of(config)
            loaders = [BatchLoader(fresh_stream, fresh, size, rank, data_size) for rank in range(data_size)]
            found = [batch for loader in loaders for batch in loader.global_batch(begins[step], 16)]
            found.sort(key=lambda batch: batch.number)
            for name in NAMES:
                assert np.array_equal(joined(found, name), joined([alone[step]], name)), name


def test_an_evaluation_is_the_same_for_every_seed_and_its_end_asks_nothing(source: SentenceCorpus) -> None:
    config = config_of("next_sentence", mask_rate=0.5)
    stream = stream_of(source.corpus.path, config, endless=False, seed=0)
    assert stream.num_samples is not None
    total = stream.num_samples + 7
    first, second = (
        batches(stream, objective_of(config, seed=seed, is_evaluation=True), 0, total, total)[0] for seed in (1, 2)
    )
    for name in NAMES:
        assert np.array_equal(joined([first], name), joined([second], name))
    labels = first.extras["pair_labels_B"]
    assert labels[-7:].tolist() == [-1] * 7 and (labels[:-7] >= 0).all()
    assert (first.tokens_BS[-7:] == PAD).all() and not first.loss_mask_BS[-7:].any()
    assert first.segment_ids_BS is not None and (first.segment_ids_BS[-7:] == -1).all()
    assert 0.14 < float(first.loss_mask_BS.sum() / (first.segment_ids_BS == 0).sum()) < 0.16


class FixedOutput(SimpleNamespace):
    """An output that is sure of label 1 for every pair."""

    def __init__(self, batch: MicroBatch) -> None:
        logits = torch.tensor([0.0, 2.0], requires_grad=True)
        super().__init__(logits=logits, heads={"pair": logits.expand(len(batch.tokens_BS), 2)})

    def nll(self, labels: torch.Tensor) -> torch.Tensor:
        return torch.full(labels.shape, 2.0)

    def is_top(self, labels: torch.Tensor) -> torch.Tensor:
        return labels % 2 == 0


def test_losses_and_figures_have_both_parts(tmp_path: Path) -> None:
    config = config_of("sentence_order", pair_coefficient=0.5)
    path = write_sentences(tmp_path / "c", [[9, 8, 9], [7]] * 20).corpus.path
    objective = objective_of(config)
    (batch,) = batches(stream_of(path, config), objective, 0, 40, 40)
    labels = batch.extras["pair_labels_B"]
    counts = {label: int((labels == label).sum()) for label in (-1, 0, 1)}
    assert min(counts.values()) > 0 and objective.coefficients == {"mlm": 1.0, "pair": 0.5}
    output = FixedOutput(batch)
    weights, losses = objective.weights(batch), objective.losses(output, batch)
    assert list(weights) == list(losses) == list(objective.coefficients)
    assert float(weights["pair"]) == counts[0] + counts[1]
    right, wrong = float(np.log1p(np.exp(-2))), float(np.log1p(np.exp(2)))
    assert float(losses["pair"]) == pytest.approx(counts[1] * right + counts[0] * wrong, rel=1e-5)
    sums = {name: float(value) for name, value in objective.evaluation_sums(output, batch).items()}
    assert tuple(sums) == objective.evaluation_names
    figures = objective.figures(sums)
    assert figures["loss"] == 2 and figures["pair_accuracy"] == counts[1] / (counts[0] + counts[1])
    assert figures["pair_loss"] == pytest.approx(float(losses["pair"]) / (counts[0] + counts[1]))
    assert objective.figures(dict.fromkeys(sums, 0.0))["pair_accuracy"] is None


def test_a_batch_without_labels_has_a_loss_of_zero_and_finite_gradients(tmp_path: Path) -> None:
    config = config_of("sentence_order")
    path = write_sentences(tmp_path / "c", [[9, 8]] + [[7]] * 40).corpus.path
    objective, stream = objective_of(config), stream_of(path, config)
    rows = [batch for batch in batches(stream, objective, 0, 40, 1) if batch.extras["pair_labels_B"].item() == -1]
    output = FixedOutput(rows[0])
    loss = objective.losses(output, rows[0])["pair"]
    loss.backward()
    assert float(loss) == 0 == float(objective.weights(rows[0])["pair"])
    assert output.logits.grad.tolist() == [0.0, 0.0]


def test_what_does_not_fit_is_refused() -> None:
    config = MaskedPairsConfig()
    assert config.problems(pair_encoder()) == []
    assert config.sampling(encoder(), documents_apart=False).index == SENTENCE_PAIRS

    sizes = {"num_layers": 1, "hidden_size": 8, "seq_length": 64}
    assert "needs a pair head" in config.problems(Encoder(name="bert", **sizes))[0]  # type: ignore[arg-type]
    of_gpt = config.problems(Decoder(name="gpt", **sizes))  # type: ignore[arg-type]
    assert len(of_gpt) == 2 and all("; expected " in problem for problem in of_gpt)
    assert (
        "expected model.token_types=2" in config.problems(BertConfig(**sizes, num_attention_heads=2, token_types=1))[0]
    )
    assert "; expected objective.name=masked_pairs, " in CausalConfig().problems(pair_encoder())[0]
    untrained = config_of("next_sentence", pair_coefficient=0)
    assert untrained.problems(pair_encoder()) == [] and "the pair head is not trained" in untrained.notes()[0]
    assert "no room for a pair" in config.problems(pair_encoder(4))[0]
    with pytest.raises(ConfigError, match="reset_attention_at_documents"):
        config.sampling(encoder(), documents_apart=True)
    with pytest.raises(ValidationError, match="length_schedule cuts samples into rows"):
        config_of("next_sentence", length_schedule=[{"from_sample": 0, "length": 32}])
    with pytest.raises(ValidationError, match="expected true"):
        config_of("next_sentence", add_special_tokens=False)
    with pytest.raises(ValidationError):
        config_of("previous_sentence")


@pytest.mark.parametrize("kind", KINDS)
def test_no_part_begins_or_ends_with_white_space(tmp_path: Path, kind: str) -> None:
    """All sentences of a document but the last are followed by a space: it would tell which part is the later one."""
    corpus = make_corpus(tmp_path, documents=60, sentences=True)
    changes = BERT | {"objective__pairs": kind}
    data = RunData.open(tiny_config(tmp_path / "run", corpus, **changes))
    blank = data.tokens.blanks
    assert blank.any()
    model = tiny_config(tmp_path / "run", corpus, **changes).model
    config = config_of(kind)
    objective = MaskedPairsObjective(config, ObjectiveContext(model, data.tokens, seed=1))
    raw = data.train.read(np.arange(300))
    ends = raw.tokens[np.arange(300), np.maximum(raw.extras["first_tokens"] - 1, 0)]
    assert blank[ends].mean() > 0.05  # the corpus has what must not be seen
    batch = objective.batch(raw.rows(0, 300), 0)
    is_special = np.isin(batch.labels_BS.numpy(), [data.tokens.role(r) for r in ("classification", "separator")])
    labels, read = batch.labels_BS.numpy(), batch.segment_ids_BS
    assert read is not None
    beside = np.zeros_like(is_special)
    beside[:, 1:] |= is_special[:, :-1]
    beside[:, :-1] |= is_special[:, 1:]
    inside = (read.numpy() >= 0) & ~is_special
    assert inside.any() and not blank[labels[beside & inside]].any()
