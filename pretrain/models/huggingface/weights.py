"""Tensor for tensor: our checkpoint's global names and packings <-> those of the transformers classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from configs.errors import CheckpointError, ConfigError
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.config_fields import NO_IDS, RoleIds
from pretrain.models.huggingface.family import counterpart_of
from pretrain.models.huggingface.rules import PRESENT_NAMES
from pretrain.models.huggingface.width_folding import folded

if TYPE_CHECKING:
    import torch


def to_hf(
    tensors: Mapping[str, torch.Tensor], model: ModelConfig, ids: RoleIds = NO_IDS
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (transformers name, tensor) for the class with the model's head, one tensor of ours read at a time.

    Args:
        tensors: global name -> tensor with its global shape; may read lazily.
        model: what the tensors belong to; multipliers of width scaling are multiplied into weights.
        ids: of the tokenizer.

    Raises:
        ConfigError: if transformers has no such class.
        CheckpointError: a tensor is missing, left over or of another shape than `model` says.
    """
    rules = counterpart_of(model).rules(model, ids)
    shapes = {spec.name: spec.shape for spec in model.parameters()}
    for name in sorted(set(tensors) - set(shapes)):
        raise CheckpointError(f"holds the tensor {name}, which the model in its metadata does not have", where=name)
    for rule in rules:
        if rule.zeros_like is not None and rule.ours not in shapes:
            import torch

            yield from zip(rule.theirs, rule.split(torch.zeros(shapes[rule.zeros_like][0])), strict=True)
            continue
        if rule.ours not in tensors:
            raise CheckpointError("is missing from the checkpoint", where=rule.ours)
        tensor = tensors[rule.ours]
        if tuple(tensor.shape) != shapes[rule.ours]:
            raise CheckpointError(
                f"has shape {tuple(tensor.shape)}", where=rule.ours, expected=f"{shapes[rule.ours]} by the model config"
            )
        yield from zip(rule.theirs, rule.split(folded(rule.ours, tensor, model)), strict=True)


def from_hf(
    tensors: Mapping[str, torch.Tensor], model: ModelConfig, ids: RoleIds = NO_IDS
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (our global name, tensor) from the state dict of the transformers class with the model's head.

    Rows of the vocabulary beyond `vocab_size` are zero.

    Raises:
        ConfigError: if `model` has no counterpart, or has a base width, of which theirs know nothing.
        CheckpointError: a tensor is missing, or has another shape than `model` says.
    """
    if model.is_width_scaled:
        raise ConfigError("is set, and a transformers model has none", where="model.base_hidden_size", expected="null")
    shapes = {spec.name: spec.shape for spec in model.parameters()}
    for rule in counterpart_of(model).rules(model, ids):
        if rule.zeros_like is not None and rule.ours not in shapes:  # accept only that nothing is lost
            if any(bool(tensors[name].any()) for name in rule.theirs if name in tensors):
                raise CheckpointError("is not zero, but the model config has no such bias", where=rule.theirs[0])
            continue
        names = [name if name in tensors else PRESENT_NAMES.get(name, name) for name in rule.theirs]
        missing = [name for name in names if name not in tensors]
        if missing:
            raise CheckpointError("is missing from the transformers model", where=missing[0])
        joined = rule.join([tensors[name] for name in names])
        if tuple(joined.shape) != shapes[rule.ours]:
            expected = f"what makes {rule.ours} {shapes[rule.ours]}"
            raise CheckpointError(f"makes a tensor of {tuple(joined.shape)}", where=rule.theirs[0], expected=expected)
        yield rule.ours, joined
