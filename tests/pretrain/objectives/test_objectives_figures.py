from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pretrain.data.token_facts import TokenFacts
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.causal import CausalObjective
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.figures import bits_per_byte, perplexity
from pretrain.objectives.objective import ObjectiveContext


def test_perplexity_of_a_fair_guess_is_the_number_of_choices() -> None:
    assert perplexity(math.log(8192)) == pytest.approx(8192)


@pytest.mark.parametrize("loss", [710.0, 1e9, math.inf])
def test_perplexity_beyond_a_float_is_infinite(loss: float) -> None:
    assert perplexity(loss) == math.inf


def test_perplexity_of_nan_is_nan() -> None:
    assert math.isnan(perplexity(math.nan))


def test_a_uniform_guess_over_bytes_costs_eight_bits_each() -> None:
    assert bits_per_byte(100 * math.log(256), 100) == pytest.approx(8.0)


def figures(nats: float, tokens: float, size: float) -> dict[str, float | None]:
    model = GPTConfig(num_layers=1, hidden_size=8, num_attention_heads=1, seq_length=8)
    objective = CausalObjective(CausalConfig(), ObjectiveContext(model, TokenFacts(10), seed=1))
    return objective.figures({"nats": nats, "tokens": tokens, "bytes": size})


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 20), st.integers(1, 12)), min_size=1, max_size=50))
def test_bits_per_byte_do_not_depend_on_how_the_text_is_cut(tokens: list[tuple[float, int]]) -> None:
    """The same text with the same probability, as many tokens or as one."""
    loss_sum, byte_sum = sum(loss for loss, _ in tokens), sum(size for _, size in tokens)
    many, one = figures(loss_sum, len(tokens), byte_sum), figures(loss_sum, 1, byte_sum)
    assert many["bits_per_byte"] == one["bits_per_byte"]
    assert many["loss"] == pytest.approx(one["loss"] / len(tokens))  # type: ignore[operator]


def test_unknown_or_no_bytes_give_no_figure() -> None:
    assert figures(10, 5, 0)["bits_per_byte"] is None
    assert bits_per_byte(10.0, 0) is None


def test_no_tokens_are_an_error_not_a_division() -> None:
    with pytest.raises(ValueError, match="no label"):
        figures(0.0, 0, 0)
