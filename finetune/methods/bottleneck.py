"""Bottleneck adapters: two thin layers with an activation between them behind sublayers of a frozen network.

Behind the attention and behind the feed-forward (Houlsby et al. 2019, section 2.1), or behind the latter alone
(Pfeiffer et al. 2021, section 3.2.2). Each reads what a sublayer gives before it is added to the residual stream, and
adds to it.
No library keeps them for this version of transformers, so the modules are ours; they cannot be merged into a matrix.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.methods.adapter import Adapter, fill
from finetune.methods.config import BottleneckConfig

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import EncodedPart, FinetuneTask

ATTENTION_OUTPUTS = (
    "self_attn.o_proj",  # Llama and those like it
    "self_attn.out_proj",  # BART
    "encoder_attn.out_proj",
    "self_attn.dense",  # Phi
    "attention.dense",  # GPT-NeoX
    "attention.output.dense",  # BERT, RoBERTa
    "attn.Wo",  # ModernBERT
    "attn.c_proj",  # GPT-2
    "SelfAttention.o",  # T5
    "EncDecAttention.o",
)
"""Ends of the names of the layers that attention writes with, as classes of transformers call them."""
FEEDFORWARD_OUTPUTS = (
    "mlp.down_proj",
    "mlp.c_proj",
    "mlp.fc2",
    "mlp.dense_4h_to_h",
    "mlp.Wo",
    "output.dense",
    "DenseReluDense.wo",
    "fc2",  # BART
)
"""Ends of the names of the layers that the feed-forward writes with."""
_CHILD = "bottleneck"
_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NEAR_ZERO_STD = 1e-2


class BottleneckAdapter(Adapter):
    """Bottlenecks in a task's network; see `Adapter`."""

    config: BottleneckConfig

    def put_in(self, network: Any) -> Any:
        """See the base class; the network itself is returned.

        Raises:
            ConfigError: it has no sublayers that are known by their names.
        """
        import torch

        new_parts = tuple(f"{name}." for name in getattr(network, "new_parts", ()))
        network.requires_grad_(False)
        found = [each for each in _sublayers(network, self.config.placement) if not each[0].startswith(new_parts)]
        if not found:
            raise self._refusal(network, "none of its layers is known to end a sublayer")
        with torch.random.fork_rng(devices=[]):
            # Whatever was drawn for the network before: whole and partitioned ones get the same adapter.
            torch.manual_seed(self._seed)
            for _, layer in found:
                setattr(layer, _CHILD, _bottleneck(layer, self.config))
                layer.register_forward_hook(_add)
        for name, parameter in network.named_parameters():
            if name.startswith(new_parts):
                parameter.requires_grad_(True)
        return network.eval()

    def try_out(self, network: Any, task: FinetuneTask, part: EncodedPart) -> Any:
        """See the base class."""
        return self.put_in(network)

    def read_back(self, network: Any, folder: Path) -> Any:
        """See the base class."""
        from safetensors.torch import load_file

        model = self.put_in(network)
        fill(model, load_file(folder / _WEIGHTS))
        return model

    def save(self, folder: Path, model: Any, weights: Mapping[str, torch.Tensor], base: Path) -> None:
        """See the base class; in a format of our own, which peft does not read."""
        from pretrain.models.huggingface.transformers_model import save_weights

        trained = {name: weights[name] for name, each in model.named_parameters() if each.requires_grad}
        fill(model, trained)
        folder.mkdir(parents=True, exist_ok=True)
        said = self.config.model_dump(mode="json") | {"base_model_name_or_path": str(base.absolute())}
        (folder / _CONFIG).write_text(json.dumps(said, indent=2) + "\n", "utf-8")
        save_weights({name: tensor.detach().float().cpu() for name, tensor in trained.items()}, folder / _WEIGHTS)


def _sublayers(network: torch.nn.Module, placement: str) -> Iterator[tuple[str, torch.nn.Module]]:
    """The last layers of sublayers, by name, in the order of the network."""
    for name, module in network.named_modules():
        # BERT calls both of them output.dense; the attention's name is the longer one.
        is_attention = f".{name}".endswith(tuple(f".{end}" for end in ATTENTION_OUTPUTS))
        is_feedforward = f".{name}".endswith(tuple(f".{end}" for end in FEEDFORWARD_OUTPUTS)) and not is_attention
        if is_feedforward or (is_attention and placement == "houlsby"):
            yield name, module


def _bottleneck(layer: Any, config: BottleneckConfig) -> torch.nn.Module:
    """Down, activation, up: near the identity at first, with what the layer gives added to it."""
    import torch

    # GPT-2's layers keep their matrices transposed, and their width under another name.
    width = layer.out_features if isinstance(layer, torch.nn.Linear) else layer.nf
    activation = torch.nn.ReLU() if config.activation == "relu" else torch.nn.GELU()
    made = torch.nn.Sequential(torch.nn.Linear(width, config.size), activation, torch.nn.Linear(config.size, width))
    for each in (made[0], made[2]):
        torch.nn.init.normal_(each.weight, std=_NEAR_ZERO_STD)  # type: ignore[arg-type]
        torch.nn.init.zeros_(each.bias)  # type: ignore[arg-type]
    return made


def _add(layer: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
    """A forward hook: what the layer gives, with what its bottleneck makes of it."""
    found: torch.Tensor = output + getattr(layer, _CHILD)(output)
    return found
