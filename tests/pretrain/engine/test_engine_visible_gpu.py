"""Where tensors lie on a machine that shows a GPU: the reference on the CPU all the same, a training step on it."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

from pretrain.config import ParallelConfig
from pretrain.config.model import ModelConfig
from pretrain.data.token_facts import TokenFacts
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.objectives.causal_config import CausalConfig
from pretrain.objectives.masked_config import MaskedConfig
from pretrain.objectives.objective import ObjectiveContext
from pretrain.objectives.pair_config import MaskedPairsConfig
from tests.distributed import run_ranks
from tests.pretrain.engine.encoder_cases import EncoderCase
from tests.pretrain.engine.layout_cases import GPT2, LLAMA, PRELOAD, VOCAB, Case

ENCODER = {key: value for key, value in LLAMA.items() if key != "num_query_groups"}
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1}
MODELS: dict[str, ModelConfig] = {
    "llama": GPTConfig(**LLAMA),
    "gpt2 with dropout": GPTConfig(**GPT2, **DROPOUT),
    "modern encoder": ModernEncoderConfig(**ENCODER),
    "bert": BertConfig(**ENCODER),
}


def show_gpu(visible: bool) -> None:
    # A command that a test before this one ran in its own process may have hidden all GPUs.
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if visible:
        from tests.cuda_stand_in.visible_gpu import stand_in

        stand_in(torch)


def reference(name: str, visible: bool) -> dict[str, torch.Tensor]:
    show_gpu(visible)
    from pretrain.engine.single import reference_outputs
    from pretrain.models.huggingface.logit_check import check_rows
    from tests.finetune.finetune_oracle import random_tensors

    assert torch.cuda.is_available() is visible
    before = (torch.cuda.current_device, torch.cuda.synchronize, torch.Tensor.cuda)
    model = MODELS[name]
    outputs = reference_outputs(model, random_tensors(model), check_rows(model, [], 2, 0))
    if visible:
        after = (torch.cuda.current_device, torch.cuda.synchronize, torch.Tensor.cuda)
        assert after == before, "what is placed on the GPU afterwards has to come to lie there"
    return outputs


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_reference_is_computed_on_the_cpu_beside_a_gpu(name: str) -> None:
    beside, alone = (
        run_ranks(reference, 1, name, visible, process_group=False, preload=PRELOAD)[0] for visible in (True, False)
    )
    assert beside.keys() == alone.keys()
    for output in alone:
        assert beside[output].device.type == "cpu"
        assert torch.equal(beside[output], alone[output])


def step_on_gpu(name: str) -> list[str]:
    """One micro-batch forward and backward, with everything placed on the GPU that the engine places there."""
    show_gpu(visible=True)
    from megatron.core import parallel_state

    from pretrain.engine import cpu_bridge, random_state
    from pretrain.engine.engine import _to_device
    from pretrain.engine.processes import join_ranks
    from pretrain.models.family import StagePlace, family_of
    from pretrain.parallel.launch import Launch

    join_ranks(Launch(0, 1, 0, 1, None, None, "python"), torch.device("cpu"))
    parallel_state.initialize_model_parallel()
    cpu_bridge.install()
    assert not cpu_bridge.is_active()
    random_state.install()
    case = CASES[name]
    family = family_of(case.model_config())
    module, _ = family.build(case.model_config(), ParallelConfig(), torch.float32, StagePlace())
    module.to("cuda")
    objective = objective_of(case)
    batch = _to_device(case.micro_batches(0, 0, 1)[0], torch.device("cuda"))
    output = family.forward(module, module, batch)
    losses = objective.losses(output, batch)
    sum(losses.values()).backward()
    with torch.no_grad():
        sums = objective.evaluation_sums(family.forward(module, module, batch), batch)
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    assert len(gradients) > 10
    found = [*objective.weights(batch).values(), *losses.values(), *sums.values(), *gradients]
    return sorted({str(tensor.device) for tensor in found})


def objective_of(case: Case) -> Any:
    model = case.model_config()
    roles = {"mask": 3, "classification": 1, "separator": 2}
    context = ObjectiveContext(model, TokenFacts(VOCAB, roles), seed=1)
    if case.family == "bert":
        return MaskedPairsConfig(selection="token").implement()(MaskedPairsConfig(selection="token"), context)
    if case.family == "modern":
        return MaskedConfig(selection="token").implement()(MaskedConfig(selection="token"), context)
    objective = CausalConfig().implement()(CausalConfig(), context)
    objective._token_bytes = torch.ones(VOCAB, dtype=torch.float64, device="cpu")
    return objective


CASES = {
    "llama": Case("llama", 1),
    "llama, documents apart": Case("llama", 1, resets_attention=True),
    "llama, dropout": Case("llama", 1, model=DROPOUT),
    "gpt2": Case("gpt2", 1, family="gpt2"),
    "modern": EncoderCase("modern", 1, family="modern"),
    "bert": EncoderCase("bert", 1, family="bert"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_training_step_lies_on_the_gpu(name: str) -> None:
    # What mixes both devices fails.
    assert run_ranks(step_on_gpu, 1, name, process_group=False, preload=PRELOAD) == [["meta"]]
