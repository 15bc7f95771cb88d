"""Tensor for tensor: our checkpoint's global names and packings <-> those of the transformers classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from configs.errors import CheckpointError, ConfigError
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.config_fields import NO_IDS, RoleIds
from pretrain.models.huggingface.family import counterpart_of
from pretrain.models.huggingface.rules import PRESENT_NAMES, Rule
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
    weights = HuggingFaceWeights(tensors, model, ids)
    yield from weights.items()


class HuggingFaceWeights(Mapping[str, "torch.Tensor"]):
    """Our tensors under transformers' names, each read when it is asked for; in the order of the rules.

    Args:
        tensors: global name -> tensor with its global shape; may read lazily.
        model: what the tensors belong to; multipliers of width scaling are multiplied into weights.
        ids: of the tokenizer.

    Raises:
        ConfigError: if transformers has no such class.
        CheckpointError: a tensor is missing or left over; when it is asked for: it has another shape than `model` says.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], model: ModelConfig, ids: RoleIds = NO_IDS) -> None:
        self._tensors, self._model = tensors, model
        self._shapes = {spec.name: spec.shape for spec in model.parameters()}
        for name in sorted(set(tensors) - set(self._shapes)):
            raise CheckpointError(f"holds the tensor {name}, which the model in its metadata does not have", where=name)
        self._places: dict[str, tuple[Rule, int]] = {}
        for rule in counterpart_of(model).rules(model, ids):
            if not self._is_of_zeros(rule) and rule.ours not in tensors:
                raise CheckpointError("is missing from the checkpoint", where=rule.ours)
            self._places |= {name: (rule, number) for number, name in enumerate(rule.theirs)}
        # What one tensor of ours becomes is asked for in a row.
        self._last: tuple[Rule | None, Sequence[torch.Tensor]] = (None, ())

    def __getitem__(self, name: str) -> torch.Tensor:
        rule, number = self._places[name]
        if self._last[0] is not rule:
            self._last = (None, ())  # not both at once
            self._last = (rule, self._split(rule))
        return self._last[1][number]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, which is not read."""
        import torch

        rule, number = self._places[name]
        like = rule.zeros_like if self._is_of_zeros(rule) else rule.ours
        assert like is not None
        ours = self._shapes[like][:1] if self._is_of_zeros(rule) else self._shapes[like]
        return tuple(rule.split(torch.empty(ours, device="meta"))[number].shape)

    def _is_of_zeros(self, rule: Rule) -> bool:
        return rule.zeros_like is not None and rule.ours not in self._shapes

    def _split(self, rule: Rule) -> Sequence[torch.Tensor]:
        if self._is_of_zeros(rule):
            import torch

            assert rule.zeros_like is not None
            return rule.split(torch.zeros(self._shapes[rule.zeros_like][0]))
        tensor = self._tensors[rule.ours]
        if tuple(tensor.shape) != self._shapes[rule.ours]:
            expected = f"{self._shapes[rule.ours]} by the model config"
            raise CheckpointError(f"has shape {tuple(tensor.shape)}", where=rule.ours, expected=expected)
        return rule.split(folded(rule.ours, tensor, self._model))


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
