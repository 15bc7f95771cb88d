"""A pretrained language model with its own output layer, to be trained on: made, saved, read back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.networks import save_network
from finetune.pretrained import PretrainedModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def language_network(
    pretrained: PretrainedModel, fields: Mapping[str, Any] | None = None, *, from_scratch: bool = False
) -> PreTrainedModel:
    """Transformers' language model of the class that was pretrained, in fp32 on the CPU and evaluation mode.

    Weights that the class ties may be left out of what is loaded into it later.

    Args:
        pretrained: the model.
        fields: of the config, in place of its own.
        from_scratch: whether its weights are random; which are tied does not change.
    """
    import torch

    from pretrain.models.huggingface.transformers_model import model_from_tensors

    network = model_from_tensors(pretrained.hf_config | dict(fields or {}), pretrained.tensors)
    if from_scratch:
        with torch.no_grad():
            _randomize(network)
    network.register_load_state_dict_pre_hook(_add_tied)
    return network


def save_language_network(
    folder: Path, network: PreTrainedModel, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
) -> None:
    """Write config, safetensors and `generation_config.json` of a model with these weights in place of its own.

    Args:
        folder: an existing directory.
        network: as `language_network` made it.
        weights: of all parameters; what is no parameter (BART's bias of its logits) stays as it was pretrained.
        pretrained: where it came from.
    """
    kept = {
        name: pretrained.tensors.get(name, tensor)
        for name, tensor in network.state_dict().items()
        if name not in dict(network.named_parameters(remove_duplicate=False))
    }
    save_network(folder, network, {**weights, **kept})
    network.generation_config.save_pretrained(folder)


def _randomize(network: PreTrainedModel) -> None:
    import torch
    import transformers

    fresh = dict(type(network)(transformers.AutoConfig.for_model(**network.config.to_dict())).named_parameters(
        remove_duplicate=False
    ))  # fmt: skip
    used: set[int] = set()
    for name, parameter in network.named_parameters():
        initial = fresh[name]
        # A layer that the class has tied, and this model has not, is drawn for itself.
        if id(initial) in used:
            initial = torch.empty_like(initial).normal_(std=float(initial.std()))
        used.add(id(fresh[name]))
        parameter.copy_(initial)
    for name, buffer in network.named_buffers():
        if name in network.state_dict():
            buffer.zero_()


def _add_tied(module: Any, state: dict[str, torch.Tensor], prefix: str, *others: Any) -> None:
    """Give the second name of a tied weight what the first one has."""
    if prefix:
        return
    first: dict[int, str] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        known = first.setdefault(id(parameter), name)
        if known != name and name not in state and known in state:
            state[name] = state[known]
    for name, buffer in module.named_buffers():
        if name not in state and name in module.state_dict():
            state[name] = buffer
