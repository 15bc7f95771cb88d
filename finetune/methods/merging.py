"""An adapter merged into the weights of its network, with a check that it then says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from configs.errors import UserError
from finetune.methods.adapter import ADAPTER, TOLERANCE, fill, losses_of, quiet

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import EncodedPart, FinetuneTask

_TRIED = 8
"""Examples that are compared."""


@dataclass(frozen=True)
class MergeCheck:
    """How far logits of a few examples are apart.

    Attributes:
        merged_difference: between the merged and the adapted network: the largest.
        base_difference: between the adapted network and the pretrained one under the trained head.
    """

    merged_difference: float
    base_difference: float


def merge(
    model: Any, network: Any, task: FinetuneTask, part: EncodedPart
) -> tuple[dict[str, torch.Tensor], MergeCheck]:
    """The weights of the network with its adapter merged into them, by name.

    Args:
        model: of `put_in`, with trained weights; its adapter is merged.
        network: the same network without an adapter; gets the weights.
        task: that it learned.
        part: examples to compare on.

    Raises:
        UserError: merged, it says other things; or the training changed nothing.
    """
    numbers = range(min(_TRIED, len(part.lengths)))
    adapted = _logits(task, model, part, numbers)
    with quiet():
        model.merge_adapter()
    weights = _plain_weights(model)
    new_parts = tuple(f"{name}." for name in getattr(network, "new_parts", ()))
    fill(network, {name: tensor for name, tensor in weights.items() if name.startswith(new_parts)})
    before = _logits(task, network, part, numbers)
    fill(network, weights)
    merged = _logits(task, network, part, numbers)
    check = MergeCheck(_largest(adapted, merged), _largest(adapted, before))
    allowed = TOLERANCE * max(1.0, max(float(each.abs().max()) for each in adapted))
    if not check.merged_difference <= allowed:
        raise UserError(
            f"logits of the merged model differ from those of the adapted one by {check.merged_difference:.1e}",
            where="method",
            expected=f"at most {allowed:.1e}",
        )
    if not check.base_difference > 0:
        raise UserError("the adapter changes nothing", where="method", expected="a longer training, or a larger rate")
    return weights, check


def _plain_weights(model: Any) -> dict[str, torch.Tensor]:
    """The weights of a model whose adapter is merged, under the names that the network has without it.

    Not by peft's way to unload a merged adapter: it cannot take heads of several layers out of IA3, and changes the
    config.
    """
    plain = {}
    for name, parameter in model.get_base_model().named_parameters():
        if ".original_module." not in f".{name}":
            name = name.replace(".base_layer.", ".").replace(f".modules_to_save.{ADAPTER}.", ".")
            plain[name] = parameter.detach()
    return plain


def _logits(task: FinetuneTask, network: Any, part: EncodedPart, numbers: Sequence[int]) -> list[torch.Tensor]:
    """fp32 logits of each call of the network that the loss of these examples takes."""
    found: list[torch.Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        found.extend(value.detach().float() for key, value in output.items() if key.endswith("logits"))

    hook = network.register_forward_hook(keep)
    try:
        losses_of(task, network, part, numbers)
    finally:
        hook.remove()
    return found


def _largest(one: list[torch.Tensor], other: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one, other, strict=True))
