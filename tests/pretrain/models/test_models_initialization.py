"""Initial weights: a function of seed and name, of the distribution that the table names."""

from __future__ import annotations

import pytest
import torch

from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.initialization import initial_shard, sharded_shape
from pretrain.models.parameter_table import Normal, ParameterSpec

SHAPE = (256, 256)


def drawn(cutoff: float | None, seed: int = 1, name: str = "w") -> torch.Tensor:
    spec = ParameterSpec(name, SHAPE, 0, Normal(0.02, cutoff), tensor_axis=0)
    return initial_shard(spec, sharded_shape(spec, 0, 1), seed)


def test_values_beyond_the_cutoff_are_drawn_again() -> None:
    free, cut = drawn(None), drawn(2.0)
    assert not torch.equal(drawn(None, seed=2), free)
    assert 4 < free.abs().max() / 0.02 < 6 and 1.99 < cut.abs().max() / 0.02 <= 2
    assert free.std() == pytest.approx(0.02, rel=0.02)
    assert cut.std() == pytest.approx(0.02 * 0.8796, rel=0.02)  # of a normal distribution cut at two
    assert torch.equal(drawn(2.0), cut)
    assert not torch.equal(drawn(2.0, seed=2), cut) and not torch.equal(drawn(2.0, name="v"), cut)


def test_shards_are_parts_of_the_whole() -> None:
    spec = ParameterSpec("w", SHAPE, 0, Normal(0.02, 2.0), tensor_axis=0)
    shards = [initial_shard(spec, sharded_shape(spec, rank, 4), 1) for rank in range(4)]
    assert torch.equal(torch.cat(shards), drawn(2.0))


def test_the_cutoff_of_the_config_holds_for_every_matrix() -> None:
    sizes = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 24, "vocab_size": 93}
    model = ModernEncoderConfig(**sizes, init_cutoff=2.0)  # type: ignore[arg-type]
    normals = [spec.init for spec in model.parameters() if isinstance(spec.init, Normal)]
    assert len(normals) > 8 and {init.cutoff for init in normals} == {2.0}
