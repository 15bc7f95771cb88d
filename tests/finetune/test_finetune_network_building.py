"""A network that is built in partitions has the weights of the one that is built whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from finetune.checkpoints import weights_fingerprint
from finetune.network_building import built_by
from finetune.networks import head_network
from finetune.pretrained import read_pretrained
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import prepare


def build(root: str) -> Any:
    pretrained = read_pretrained(Path(root) / "run")
    torch.manual_seed(5)
    return head_network("AutoModelForSequenceClassification", pretrained, {"num_labels": 7, "pad_token_id": 0})


def build_partitioned(root: str) -> tuple[int, int, str, dict[str, torch.Tensor]]:
    """On each rank: elements that it holds, the most that existed at once, the fingerprint, and the whole weights."""
    from pretrain.engine.task_engine import full_weights, task_engine, task_processes
    from pretrain.engine.task_partitioning import Partitioner
    from pretrain.optimizers.adamw_config import AdamWConfig

    with task_processes():
        largest, partition = 0, Partitioner.partition

        def watched(self: Partitioner, whole: torch.Tensor, requires_grad: bool = True) -> torch.nn.Parameter:
            nonlocal largest
            largest = max(largest, whole.numel())
            return partition(self, whole, requires_grad)

        Partitioner.partition = watched  # type: ignore[method-assign]
        with built_by(Partitioner("fp32", 2)):
            network = build(root)
        held = sum(parameter.ds_tensor.numel() for parameter in network.parameters())
        assert all(parameter.numel() == 0 for parameter in network.parameters())
        fingerprint = weights_fingerprint(network)
        engine = task_engine(network, AdamWConfig(lr=1e-3), zero_stage=3, precision="fp32", micro_batch_size=2)
        return held, largest, fingerprint, full_weights(engine)


@pytest.mark.slow
def test_partitions_have_the_values_of_the_whole(tmp_path: Path) -> None:
    prepare(tmp_path)
    whole = build(str(tmp_path))
    tensors = dict(whole.named_parameters())
    elements = sum(parameter.numel() for parameter in tensors.values())
    found = run_ranks(build_partitioned, 2, str(tmp_path), process_group=False, preload=("deepspeed", "transformers"))
    for held, largest, fingerprint, _ in found:
        assert elements / 2 <= held <= elements / 2 + len(tensors)
        assert largest == max(parameter.numel() for parameter in tensors.values())
        assert fingerprint == weights_fingerprint(whole)
    weights = found[0][3]
    assert weights.keys() == tensors.keys() and not found[1][3]
    for name, parameter in tensors.items():
        assert torch.equal(weights[name], parameter), name


def test_the_new_layer_follows_from_seed_and_name(tmp_path: Path) -> None:
    prepare(tmp_path)
    one = build(str(tmp_path)).score.weight
    before = torch.random.get_rng_state()
    torch.rand(7)
    assert torch.equal(build(str(tmp_path)).score.weight, one) and 0.01 < one.std() < 0.03
    torch.random.set_rng_state(before)
    pretrained = read_pretrained(tmp_path / "run")
    torch.manual_seed(6)
    other = head_network("AutoModelForSequenceClassification", pretrained, {"num_labels": 7, "pad_token_id": 0})
    assert not torch.equal(other.score.weight, one)
    assert torch.equal(other.model.embed_tokens.weight, pretrained.tensors["model.embed_tokens.weight"])
