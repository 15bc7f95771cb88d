"""What ranks of their own do to see how deepspeed and megatron-core build a model; see `upstream_canaries.py`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

SETTINGS = {"train_micro_batch_size_per_gpu": 1, "zero_optimization": {"stage": 3}}


def values(parameter: torch.nn.Parameter) -> dict[str, Any]:
    """What DeepSpeed noted at a partitioned parameter and at its partition, as values that can be compared."""
    noted = vars(parameter) | {f"ds_tensor.{name}": value for name, value in vars(parameter.ds_tensor).items()}  # type: ignore[attr-defined]
    noted["size"], noted["dtype"] = parameter.shape, parameter.dtype
    partition = parameter.ds_tensor  # type: ignore[attr-defined]
    noted["partition"] = (partition.shape, partition.dtype, partition.requires_grad, partition.device)
    # Closures and numbers that count the parameters.
    return {name: None if callable(value) or name in ("ds_id", "ds_tensor") else value for name, value in noted.items()}


def parameters_are_built_whole() -> None:
    """DeepSpeed partitions what is whole on every rank, by a broadcast; ours ends in the same state without either."""
    from pretrain.engine.partitioning import partition_into
    from pretrain.engine.upstream import import_deepspeed

    deepspeed = import_deepspeed()
    module = torch.nn.Linear(3, 3, bias=False)
    weight = torch.arange(9.0).view(3, 3)
    with torch.no_grad():
        module.weight.copy_(weight if dist.get_rank() == 0 else -weight)
    deepspeed.zero.Init(module=module, config_dict_or_path=SETTINGS, dtype=torch.float32)
    with deepspeed.zero.GatheredParameters([module.weight]):
        assert torch.equal(module.weight, weight), "upstream does not broadcast what rank 0 has any more"

    init = deepspeed.zero.Init(config_dict_or_path=SETTINGS, dtype=torch.float32)
    ours = torch.nn.Parameter(torch.empty(1).expand(3, 3))
    init._convert_to_deepspeed_param(ours)
    partition = partition_into(torch.zeros(5), init, ours)
    assert values(ours) == values(module.weight)
    first, last = (0, 5) if dist.get_rank() == 0 else (5, 9)
    partition[: last - first].copy_(weight.view(-1)[first:last])
    assert torch.equal(partition[: last - first], module.weight.ds_tensor[: last - first])  # type: ignore[union-attr]
    with deepspeed.zero.GatheredParameters([ours]):
        assert torch.equal(ours, weight)


def collectives_of_micro_batches(stage: int) -> list[tuple[str, int]]:
    """Which collectives sum gradients at each of two micro-batches of a step, and elements of what each sums."""
    from deepspeed.comm import comm

    from tests.pretrain.engine.upstream_canaries import loss_of, small_engine

    engine, _ = small_engine(stage)
    seen: list[tuple[str, int]] = []

    def noted(name: str) -> None:
        original = getattr(comm.cdb, name)

        def call(*arguments: Any, **options: Any) -> Any:
            whole = arguments[0] if name == "all_reduce" else options["input_tensor"]
            seen.append((name, whole.numel()))
            return original(*arguments, **options)

        setattr(comm.cdb, name, call)

    for name in ("all_reduce", "reduce_scatter_tensor"):
        noted(name)
    for _ in range(2):
        engine.backward(loss_of(engine))
    return seen


def tied_copies_are_added_up() -> None:
    """megatron-core moves the copies of a tied embedding while it builds them and adds them up: they need memory."""
    from megatron.core.models.common.language_module.language_module import LanguageModule

    for device, error in (("cpu", None), ("meta", NotImplementedError)):
        weight = torch.nn.Parameter(torch.ones(2, device=device))
        stage = SimpleNamespace(
            pre_process=True,
            post_process=False,
            share_embeddings_and_output_weights=True,
            config=SimpleNamespace(pipeline_model_parallel_size=2),
            embedding=SimpleNamespace(word_embeddings=SimpleNamespace(weight=weight)),
            vp_stage=None,
            vp_size=None,
            pp_group=dist.group.WORLD,
            embd_group=dist.group.WORLD,
            shared_embedding_or_output_weight=lambda weight=weight: weight,
            _is_in_embd_group=lambda: True,
        )
        patch = pytest.MonkeyPatch()
        patch.setattr(torch.Tensor, "cuda", lambda self: self.to("cpu"))  # type: ignore[attr-defined]
        if error is None:
            LanguageModule.setup_embeddings_and_output_layer(stage)
            assert weight.tolist() == [2.0, 2.0]
        else:
            with pytest.raises(error):
                LanguageModule.setup_embeddings_and_output_layer(stage)
        patch.undo()
