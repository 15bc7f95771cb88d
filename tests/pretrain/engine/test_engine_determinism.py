"""The switch `training.deterministic`: what it sets, that the model follows, that numbers repeat and stay the same."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from pretrain.engine import determinism
from pretrain.models.family import Output
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import PRELOAD, Case, objective_of

Seen = tuple[list[tuple[float, float]], dict[str, Any]]


def trained(case: Case, deterministic: bool) -> Seen:
    """On each rank: loss and gradient norm of three steps, and what the switch has set."""
    from megatron.core.tensor_parallel import VocabParallelEmbedding

    from pretrain.engine import topology
    from pretrain.engine.engine import TrainEngine
    from pretrain.parallel.launch import discover
    from pretrain.parallel.layout import resolve_layout

    torch.set_num_threads(1)
    config = case.config()
    training = config.training.model_copy(update={"deterministic": deterministic})
    config = config.model_copy(update={"training": training})
    if deterministic:
        determinism.enforce()
    place = topology.start(discover(), resolve_layout(config, case.ranks))
    engine = TrainEngine(config, place, objective_of(config))
    modules = list(engine._deepspeed.module.modules())
    results = [
        engine.train_batch(case.micro_batches(n, place.data_rank, place.layout.data), step=n, learning_rate=1e-2)
        for n in range(3)
    ]
    state = {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
        "variables": {name: os.environ.get(name) for name in ("CUBLAS_WORKSPACE_CONFIG", "NCCL_ALGO")},
        "tokens": {m.deterministic_mode for m in modules if isinstance(m, VocabParallelEmbedding)},
        "tables": {type(m.forward).__name__ for m in modules if type(m) is torch.nn.Embedding},
    }
    return [(result.loss, result.grad_norm) for result in results], state


def run(deterministic: bool, **environment: str) -> Seen:
    case = Case("deterministic", 1, {"zero_stage": 1}, {"attention_dropout": 0.1}, family="gpt2")
    keywords: dict[str, Any] = {"process_group": False, "preload": PRELOAD, "environment": environment}
    return run_ranks(trained, 1, case, deterministic, **keywords)[0]


@pytest.mark.slow
def test_everything_follows_the_switch_and_the_numbers_are_the_same() -> None:
    plain, without = run(False)
    numbers, state = run(True, NCCL_ALGO="Tree")
    assert state == {
        "algorithms": True,
        "cudnn": False,
        "variables": {"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "NCCL_ALGO": "Tree"},
        "tokens": {True},
        "tables": {"_Lookup"},
    }
    assert without["algorithms"] is False
    assert without["tokens"] == {False}
    assert without["tables"] == {"method"}
    assert numbers == [pytest.approx(step, rel=1e-5) for step in plain]


@pytest.mark.slow
def test_the_numbers_repeat_bit_for_bit() -> None:
    assert run(True)[0] == run(True)[0]


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU, and this machine shows none")
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_the_numbers_repeat_bit_for_bit_on_a_gpu(family: str) -> None:
    model = {"attention_dropout": 0.1, "hidden_dropout": 0.1}
    case = Case("deterministic", 1, {"zero_stage": 1}, model, family=family, precision="bf16")
    first, second = (run_ranks(trained, 1, case, True, process_group=False)[0][0] for _ in range(2))
    assert first == second


def test_losses_of_a_whole_vocabulary_are_one_kernel_of_two_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    logits_SBV, labels_BS = torch.randn(5, 3, 7), torch.randint(0, 7, (3, 5))
    cross_entropy, dimensions = torch.nn.functional.cross_entropy, []

    def seen(logits: torch.Tensor, *arguments: Any, **keywords: Any) -> torch.Tensor:
        dimensions.append(logits.dim())
        return cross_entropy(logits, *arguments, **keywords)

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", seen)
    expected = -logits_SBV.log_softmax(-1).transpose(0, 1).gather(-1, labels_BS[..., None])[..., 0]
    torch.testing.assert_close(Output(logits_SBV).nll(labels_BS), expected)
    assert dimensions == [2]
