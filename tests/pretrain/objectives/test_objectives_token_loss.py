"""z-loss and label smoothing: what is trained beside the nats, for every objective whose labels are tokens."""

from __future__ import annotations

from typing import Any

import denoising_inputs
import pytest
import torch
from encoder_inputs import Decoder, Encoder, PairEncoder
from pydantic import ValidationError

from pretrain.config.kinds import OBJECTIVES
from pretrain.data.batch import MicroBatch
from pretrain.data.token_facts import TokenFacts
from pretrain.models.family import Output
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.token_loss import TokenLoss
from pretrain.objectives.token_loss_config import TokenLossConfig

VOCAB, PADDED = 20, 24
ROLES = {"mask": 0, "classification": 1, "separator": 2, "pad": 3, "fim_prefix": 4, "fim_suffix": 5, "fim_middle": 6}
DENOISING = ("span_corruption", "ul2", "text_infilling", "masked_sequence")
NAMES = ("causal", "fill_in_middle", "prefix", "masked", "masked_pairs", *DENOISING)


def inputs() -> tuple[Output, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    logits = torch.randn(7, 2, PADDED, requires_grad=True)
    return Output(logits), torch.randint(0, VOCAB, (2, 7)), (torch.rand(2, 7) < 0.7).float()


def test_what_is_trained_is_the_cross_entropy_with_smoothed_labels_and_log_z_squared() -> None:
    output, labels, mask = inputs()
    loss = TokenLoss("lm", CausalConfig(z_loss=0.01, label_smoothing=0.1), VOCAB)
    assert loss.coefficients == {"lm": 0.9, "smoothing": 0.1, "z": 0.01}
    found = loss.losses(output, labels, mask)
    trained = sum(coefficient * found[name] for name, coefficient in loss.coefficients.items())
    logits_BSV = output.logits_SBV.transpose(0, 1)
    target = torch.full((2, 7, PADDED), 0.1 / VOCAB)
    target[..., VOCAB:] = 0.0  # an embedding's padding is no token
    target.scatter_add_(2, labels[..., None], torch.full((2, 7, 1), 0.9))
    log_z = logits_BSV.logsumexp(-1)
    expected = (-(target * logits_BSV.log_softmax(-1)).sum(-1) + 0.01 * log_z**2) * mask
    torch.testing.assert_close(trained, expected.sum())
    gradients = [
        torch.autograd.grad(value, output.logits_SBV, retain_graph=True)[0] for value in (trained, expected.sum())
    ]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(found["lm"], (output.nll(labels) * mask).sum())
    weights = loss.weights(mask)
    assert list(weights) == list(loss.coefficients) == ["lm", "smoothing", "z"]
    assert {float(weight) for weight in weights.values()} == {float(mask.sum())}


def test_without_them_the_nats_alone_are_computed() -> None:
    output, labels, mask = inputs()
    loss = TokenLoss("lm", CausalConfig(), VOCAB)
    assert loss.coefficients == {"lm": 1.0}
    assert list(loss.losses(output, labels, mask)) == ["lm"]


@pytest.mark.parametrize("name", NAMES)
def test_every_objective_of_tokens_has_both_and_evaluates_without(name: str) -> None:
    declaration: Any = OBJECTIVES.declaration(name)
    assert issubclass(declaration, TokenLossConfig)
    sizes: dict[str, Any] = {"num_layers": 1, "hidden_size": 8, "seq_length": 16}
    kind = {"masked": Encoder, "masked_pairs": PairEncoder}.get(name, Decoder)
    context = ObjectiveContext(kind(name="any", **sizes), TokenFacts(VOCAB, ROLES), seed=1)
    if name in DENOISING:
        context = ObjectiveContext(denoising_inputs.model(), denoising_inputs.FACTS, seed=1)
    plain = declaration(name=name).implement()(declaration(name=name), context)
    config = declaration(name=name, z_loss=0.5, label_smoothing=0.25)
    both = config.implement()(config, context)
    (main, *others) = plain.coefficients
    assert both.coefficients == {main: 0.75, "smoothing": 0.25, "z": 0.5} | {
        key: plain.coefficients[key] for key in others
    }
    assert both.evaluation_names == plain.evaluation_names
    assert not {"z_loss", "label_smoothing"} & set(config.evaluated())


@pytest.mark.parametrize("name", DENOISING)
def test_denoising_objectives_train_what_the_causal_one_does(name: str) -> None:
    own: dict[str, Any] = {"text_infilling": {"selection": "token"}, "ul2": {"mode_tokens": False}}
    config: Any = OBJECTIVES.declaration(name)(name=name, z_loss=0.5, label_smoothing=0.25, **own.get(name, {}))
    facts = TokenFacts(VOCAB, ROLES | {"end_of_document": 7}, sentinels=range(VOCAB - 1, 7, -1))
    objective = config.implement()(config, ObjectiveContext(denoising_inputs.model(16), facts, seed=1))
    output, labels, mask = inputs()
    batch = MicroBatch(labels, labels, mask, labels)
    expected = TokenLoss("denoising", config, VOCAB)
    found = objective.losses(Output(output.logits_SBV.clone()), batch)
    assert list(found) == ["denoising", "smoothing", "z"]
    torch.testing.assert_close(found, expected.losses(output, labels, mask))
    assert objective.weights(batch) == expected.weights(mask)


@pytest.mark.parametrize("wrong", [{"z_loss": -1e-4}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}])
def test_impossible_coefficients_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        CausalConfig(**wrong)  # type: ignore[arg-type]
