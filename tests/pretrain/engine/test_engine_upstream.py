"""One test per patch of deepspeed and megatron-core, named after it: fails when it is not needed or does not fit.

`upstream_patches.py` finds the patches and names them; `upstream_canaries.py` asks the unpatched libraries.
"""

from __future__ import annotations

import re
from types import CodeType
from typing import Any

import pytest
import torch

from tests.distributed import run_ranks
from tests.pretrain.engine import building_canaries
from tests.pretrain.engine import upstream_canaries as canaries
from tests.pretrain.engine.layout_cases import PRELOAD
from tests.pretrain.engine.test_engine_norms import clipping_without_zero
from tests.pretrain.engine.upstream_patches import (
    all_patches,
    is_pinned_version,
    patches_in,
    unexplained,
    unexplained_in,
)

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="the patch is for machines without a GPU")


def unpatched(canary: Any, *arguments: Any, ranks: int = 1) -> None:
    """Run a canary where nothing is patched yet."""
    environment = {"DS_ACCELERATOR": "cpu"}
    run_ranks(canary, ranks, *arguments, preload=PRELOAD, environment=environment, timeout_s=120)


def upstream_lines(name: str) -> list[str]:
    """The installed lines that a patch names."""
    return [reference.text for reference in all_patches()[name].references]


def names_in(code: CodeType) -> set[str]:
    """Global names and attributes that a function and the functions in it use."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


@pytest.mark.slow
def test_upstream_import_deepspeed() -> None:
    unpatched(canaries.collectives_warn)


@pytest.mark.slow
def test_upstream_skip_shared_memory_build() -> None:
    unpatched(canaries.shared_memory_is_built)


@pytest.mark.slow
def test_upstream_scope_trace_check() -> None:
    from deepspeed.runtime.zero import partitioned_param_coordinator as coordinator

    assert all("assert_ints_same_as_other_ranks(" in line for line in upstream_lines("upstream_scope_trace_check"))
    assert hasattr(coordinator, "assert_ints_same_as_other_ranks")
    unpatched(canaries.trace_check_over_the_world, True, ranks=2)
    unpatched(canaries.trace_check_over_the_world, False, ranks=2)


@pytest.mark.slow
def test_upstream_accumulate_bf16_in_zero_optimizer() -> None:
    unpatched(canaries.bf16_is_sent_elsewhere)


@pytest.mark.slow
def test_engine_loss_scaler_raise_error_at_min_scale() -> None:
    unpatched(canaries.lowest_loss_scale_raises)


@pytest.mark.slow
def test_task_engine_engine_clip_fp32_gradients() -> None:
    unpatched(clipping_without_zero)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_zero_partitions_flat_partitions(stage: int) -> None:
    unpatched(canaries.zero_partitions, stage)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2])
def test_zero_partitions_zero_check_grad_overflow(stage: int) -> None:
    unpatched(canaries.zero_norm_hooks, stage)


@pytest.mark.slow
def test_zero_partitions_parameter_partitions() -> None:
    unpatched(canaries.zero_partitions, 3)


@pytest.mark.slow
def test_zero_partitions_zero_overflow_check_and_loss_scale_update() -> None:
    unpatched(canaries.zero_norm_hooks, 3)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_adagrad_adagrad(stage: int) -> None:
    assert all("torch.optim.Adagrad(" in line or "isinstance" in line for line in upstream_lines("adagrad_adagrad"))
    unpatched(canaries.adagrad_is_made_anew, stage)


@pytest.mark.slow
def test_zero_partitions_parameter_partitions_begin_step() -> None:
    unpatched(canaries.stage3_micro_step_id)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "collective"), [(2, "all_reduce"), (3, "reduce_scatter_tensor")])
def test_stage_2_all_reduces_whole_buckets_at_each_micro_batch(stage: int, collective: str) -> None:
    found = run_ranks(building_canaries.collectives_of_micro_batches, 2, stage, preload=PRELOAD)[0]
    gradients = canaries.IN_0 * canaries.IN_1 + canaries.IN_1
    assert {name for name, _ in found} == {collective}
    assert sum(elements for _, elements in found) == 2 * gradients


def test_pipeline_backward_through() -> None:
    from megatron.core.pipeline_parallel import schedules

    for schedule in (
        schedules.forward_backward_no_pipelining,
        schedules.forward_backward_pipelining_without_interleaving,
        schedules.forward_backward_pipelining_with_interleaving,
    ):
        assert "backward_step" in names_in(schedule.__code__), "the schedule does not look backward_step up any more"
    assert {"autograd", "backward"} <= names_in(schedules.backward_step.__code__)
    unpatched(canaries.announced_backward)


@without_gpu
def test_random_state_megatron_random_cuda_rng_state_tracker() -> None:
    unpatched(canaries.generator_states)


@without_gpu
def test_random_state_megatron_random_get_cuda_rng_state() -> None:
    assert all("_cuda_rng_state(" in line for line in upstream_lines("random_state_megatron_random_get_cuda_rng_state"))
    unpatched(canaries.generator_states)


@without_gpu
def test_cpu_bridge_cuda_current_device() -> None:
    assert all(
        "device=torch.cuda.current_device()" in line for line in upstream_lines("cpu_bridge_cuda_current_device")
    )
    unpatched(canaries.cuda_is_named)


def test_fusions_fusion_settings() -> None:
    from megatron.core.fusions.fused_bias_gelu import bias_gelu_impl

    assert upstream_lines("fusions_fusion_settings") == ["if self.activation_func == F.gelu:"]
    x, nothing = torch.linspace(-3, 3, 31), torch.zeros(31)
    with torch.compiler.set_stance("force_eager"):
        found = bias_gelu_impl(x, nothing)
    torch.testing.assert_close(found, torch.nn.functional.gelu(x, approximate="tanh"), rtol=1e-5, atol=1e-6)
    exact = torch.nn.functional.gelu(x)
    assert (found - exact).abs().max() > 1e-4, "the fused gelu is exact now: it can be chosen for gelu, too"


def test_pipeline_transformer_config_batch_p2p_sync() -> None:
    from megatron.core.model_parallel_config import ModelParallelConfig

    assert upstream_lines("pipeline_transformer_config_batch_p2p_sync") == ["torch.cuda.synchronize()"]
    assert ModelParallelConfig().batch_p2p_sync is True


def test_partitioning_partition_into() -> None:
    assert upstream_lines("partitioning_partition_into") == ["one_dim_param = param.contiguous().view(-1)"]
    unpatched(building_canaries.parameters_are_built_whole, ranks=2)


def test_network_gpt_setup_embeddings_and_output_layer() -> None:
    lines = upstream_lines("network_gpt_setup_embeddings_and_output_layer")
    assert lines == ["weight.data = weight.data.cuda()"]
    unpatched(building_canaries.tied_copies_are_added_up, ranks=2)


@without_gpu
def test_cpu_bridge_schedules_torch() -> None:
    import inspect

    from megatron.core.pipeline_parallel import schedules

    lines = upstream_lines("cpu_bridge_schedules_torch")
    # megatron/core/pipeline_parallel/schedules.py: the bridge replaces `torch.zeros`, and nothing else wants a device.
    asking = re.findall(r'(torch\.\w+)\([^()]*device="cuda"\)', inspect.getsource(schedules))
    assert asking == ["torch.zeros"] * len(lines) and all("torch.zeros([]" in line for line in lines)
    unpatched(canaries.cuda_is_named)


def test_attention_biased_self_attention_checkpointed_attention_forward() -> None:
    from megatron.core.transformer.attention import Attention

    code = Attention._checkpointed_attention_forward.__code__
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    assert [found.co_name for found in inner if "attention_bias" in found.co_freevars] == ["custom_forward"]


def test_every_patch_has_a_canary() -> None:
    canaries_here = {name for name in globals() if name.startswith("test_")}
    assert {f"test_{name}" for name in all_patches()} - canaries_here == set()


def test_every_replacement_names_its_upstream_line() -> None:
    assert unexplained() == []
    assert [patch.place for patch in all_patches().values() if not patch.is_complete] == []


def test_the_upstream_lines_are_where_the_comments_say() -> None:
    if not (is_pinned_version("deepspeed") and is_pinned_version("megatron-core")):
        pytest.skip("the comments give the lines of the versions in constraints.txt")
    named = [(patch.place, line) for patch in all_patches().values() for line in patch.references]
    assert [(place, line) for place, line in named if not line.is_in_scope()] == []


def test_a_new_patch_is_found_and_named() -> None:
    source = '''
from megatron.core import schedules

def install():
    # deepspeed/runtime/engine.py:3 (DeepSpeedEngine): why
    # it is so.
    schedules.inner.NewLimit = 3
    # stage3.py:7 is named in part only
    print()

class Hook:
    """See megatron/core/optimizer.py: no line."""

def unexplained():
    schedules.torch = None
'''
    found = {patch.name: patch for patch in patches_in("pretrain/engine/more.py", source)}
    assert set(found) == {"more_inner_new_limit", "more_install", "more_hook"}
    assert [found[name].is_complete for name in sorted(found)] == [False, True, False]
    assert unexplained_in("pretrain/engine/more.py", source) == ["pretrain/engine/more.py:15: schedules.torch"]
