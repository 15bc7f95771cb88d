"""Encoder-decoders train in every layout as in a single process; the suite notices when one is broken."""

from __future__ import annotations

import pytest

from configs.errors import ConfigError
from pretrain.parallel.layout import Layout, resolve_layout
from tests.pretrain.engine.broken_engine import check_far_above_limits, check_is_noticed
from tests.pretrain.engine.encoder_decoder_cases import ENCODER_DECODER_CASES, EncoderDecoderCase
from tests.pretrain.engine.encoder_decoder_mutations import ENCODER_DECODER_MUTATIONS
from tests.pretrain.engine.encoder_decoder_objective_cases import DENOISING_CASES
from tests.pretrain.engine.equivalence_table import References, check

# The rest of the table: `python -m tests.pretrain.engine.equivalence_table t5 bart`.
SLOW = (
    "t5, zero 1, tensor 2, sequence, hidden dropout",
    "t5_1.1, zero 3, data 2, recompute full",
    "t5_1.1, zero 2, tensor 2, sequence, recompute selective",
    "bart, zero 3, tensor 2, sequence, data 2",
    "bart_pre, zero 1, tensor 2, sequence",
    "t5_1.1, span_corruption, z and smoothing, zero 1, tensor 2",
    "bart, mixture, zero 3, data 2",
)
SLOW_MUTATIONS = (
    "the decoder's buckets for both directions",
    "the bias table's gradient of the first layer alone",
    "targets smoothed over padded ids",
    "no gradient of log Z",
    "BART's decoder that sees the future",
)
_BY_NAME = {case.name: case for case in (*ENCODER_DECODER_CASES, *DENOISING_CASES)}


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_layout_equals_single_process(name: str, references: References) -> None:
    check(_BY_NAME[name], references)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_MUTATIONS)
def test_broken_encoder_decoder_is_noticed(name: str, references: References) -> None:
    check_is_noticed(ENCODER_DECODER_MUTATIONS[name], references)


def test_expected_differences_are_far_above_the_tolerance() -> None:
    check_far_above_limits(ENCODER_DECODER_MUTATIONS.values())


@pytest.mark.parametrize("family", ["t5", "t5_1.1", "bart", "bart_pre"])
def test_every_mechanism_is_in_the_table(family: str) -> None:
    cases = [case for case in ENCODER_DECODER_CASES if case.family == family]
    assert len({case.name for case in cases}) == len(cases)
    for key, values in {
        "zero_stage": {0, 1, 2, 3},
        "tensor_size": {1, 2, 4},
        "recompute": {None, "full", "selective"},
        "sequence_parallel": {None, True},
    }.items():
        assert {case.parallel.get(key) for case in cases} == values
    assert {case.precision for case in cases} == {"fp32", "bf16"}
    assert any(case.model.get("attention_dropout") for case in cases)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_a_pipeline_is_refused_with_the_nearest_layout(family: str) -> None:
    case = EncoderDecoderCase("staged", 4, {"pipeline_size": 2}, family=family)
    with pytest.raises(ConfigError) as told:
        resolve_layout(case.config(), 4)
    text = str(told.value)
    assert f"model.name={family} is an encoder-decoder" in text and "parallel.pipeline_size is 2, expected 1" in text
    assert "tensor 1 x pipeline 1 x data 4" in text


def test_both_lengths_are_split_by_sequence_parallelism() -> None:
    parallel = {"tensor_size": 2, "sequence_parallel": True}
    case = EncoderDecoderCase("odd targets", 2, parallel, {"decoder_seq_length": 23}, family="t5")
    with pytest.raises(ConfigError, match="decoder_seq_length 23 is not a multiple of the tensor size 2"):
        resolve_layout(case.config(), 2)
    whole = EncoderDecoderCase("odd targets", 2, {"tensor_size": 2}, {"decoder_seq_length": 23}, family="t5")
    assert resolve_layout(whole.config(), 2) == Layout(tensor=2)
