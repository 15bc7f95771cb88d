"""An adapter of peft around a task's network: put in, tried, saved, read back."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError
from finetune.methods.config import AdapterConfig, LoraConfig, TargetedConfig, VirtualTokensConfig

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base import EncodedPart, FinetuneTask

TOLERANCE = 1e-4
"""Largest difference of a logit, of the largest logit or 1, that is still the same."""
_HEADS = ("classifier", "score")
"""Names of heads that peft trains beside vectors before the text."""
ADAPTER = "default"
"""What peft calls the only adapter."""
_FILE = "adapter_model.safetensors"


class Adapter:
    """One method of peft.

    Args:
        config: which.
        adapted_as: what the network is for (`TaskConfig.adapted_as`).
        seed: decides the adapter's first weights.
    """

    def __init__(self, config: AdapterConfig, adapted_as: str, seed: int) -> None:
        self.config, self._adapted_as, self._seed = config, adapted_as, seed

    def put_in(self, network: Any) -> Any:
        """The network with a new adapter, as peft's model in evaluation mode; only it and new parts are trained.

        Args:
            network: of transformers, whole or in ZeRO-3's partitions; it is changed.

        Raises:
            ConfigError: peft has no such adapter for it.
        """
        import peft
        import torch

        settings = self._peft_config(network)
        with torch.random.fork_rng(devices=[]), quiet():
            # Whatever was drawn for the network before: whole and partitioned ones get the same adapter.
            torch.manual_seed(self._seed)
            try:
                model = peft.get_peft_model(network, settings, autocast_adapter_dtype=False)
            except (ValueError, KeyError, AttributeError, NotImplementedError) as error:
                raise self._refusal(network, error) from error
        return self._as_trained(model)

    def try_out(self, network: Any, task: FinetuneTask, part: EncodedPart) -> Any:
        """`put_in`, and for vectors before the text whether they count, and padding does not; needs whole weights.

        Raises:
            ConfigError: the network takes no notice of them, or reads its answers elsewhere because of them.
        """
        if not isinstance(self.config, VirtualTokensConfig):
            return self.put_in(network)
        order = sorted(range(len(part.lengths)), key=lambda number: part.lengths[number])
        ends = [order[0], order[-1]]
        before = losses_of(task, network, part, ends)
        model = self.put_in(network)
        try:
            after = losses_of(task, model, part, ends)
            alone = losses_of(task, model, part, ends[:1])
        except Exception as error:  # whatever peft or a class of transformers says of vectors before a text
            raise self._refusal(network, error) from error
        if not bool((before - after).abs().max() > 1e-6):
            raise self._refusal(network, "it takes no notice of them")
        if not bool((after[0] - alone[0]).abs() <= TOLERANCE * max(1.0, float(alone[0].abs()))):
            raise self._refusal(network, "what it says of a text then depends on the padding beside it")
        return model

    def read_back(self, network: Any, folder: Path) -> Any:
        """A network with the adapter that `folder` holds."""
        import peft

        with quiet():
            return self._as_trained(peft.PeftModel.from_pretrained(network, folder))

    def save(self, folder: Path, model: Any, weights: Mapping[str, torch.Tensor], base: Path) -> None:
        """Give a model of `put_in` its trained weights, and write the adapter as peft reads it.

        Args:
            folder: to write.
            model: just put in.
            weights: the trained ones by name; those of frozen parameters do not count.
            base: the pretrained model, which peft's file names.
        """
        settings = model.peft_config[ADAPTER]
        settings.base_model_name_or_path = str(base.absolute())
        is_pissa = isinstance(self.config, LoraConfig) and self.config.start == "pissa"
        with tempfile.TemporaryDirectory() as scratch, quiet():
            first, trained = Path(scratch, "first"), Path(scratch, "trained")
            if is_pissa:
                settings.init_lora_weights = True
                model.save_pretrained(first, save_embedding_layers=False)
                settings.init_lora_weights = "pissa"
            fill(model, {name: weights[name] for name, each in model.named_parameters() if each.requires_grad})
            model.save_pretrained(trained if is_pissa else folder, save_embedding_layers=False)
            if is_pissa:
                # Relative to the pretrained matrices, not to the rest that PiSSA left of them.
                model.save_pretrained(
                    folder, save_embedding_layers=False, path_initial_model_for_weight_conversion=str(first)
                )
                _add_missing(folder / _FILE, trained / _FILE)
        (folder / "README.md").unlink(missing_ok=True)  # an empty form

    def _peft_config(self, network: Any) -> Any:
        import peft
        from peft.utils import constants

        if getattr(network, "config", None) is None or not hasattr(network.config, "model_type"):
            raise self._refusal(network, "peft wants a network of transformers")
        config, model_type = self.config, network.config.model_type
        fields = config.peft_fields()
        new_parts: list[str] = list(getattr(network, "new_parts", ()))
        if isinstance(config, TargetedConfig):
            if config.target_modules != "auto":
                fields["target_modules"] = config.target_modules
            elif isinstance(config, LoraConfig):
                known = constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING
                fields["target_modules"] = known.get(model_type, "all-linear")
            fields["modules_to_save"] = new_parts or None
        elif not set(new_parts) <= set(_HEADS):
            untrained = ", ".join(sorted(set(new_parts) - set(_HEADS)))
            raise self._refusal(network, f"its new {untrained} would not be trained")
        return getattr(peft, config.peft_class)(task_type=self._task_type(network), **fields)

    def _task_type(self, network: Any) -> str | None:
        if self._adapted_as == "QUESTION_ANS" and self.config.merges:
            # The forward pass of peft 0.21's class for questions drops the token types; the plain one passes all on.
            return None
        if self._adapted_as != "LM":
            return self._adapted_as
        return "SEQ_2_SEQ_LM" if network.config.is_encoder_decoder else "CAUSAL_LM"

    def _as_trained(self, model: Any) -> Any:
        is_prompt = model.peft_config[ADAPTER].peft_type == "PROMPT_TUNING"
        if is_prompt and model.peft_config[ADAPTER].task_type == "CAUSAL_LM":
            model.register_forward_hook(_without_virtual_tokens)
        return model.eval()

    def _refusal(self, network: Any, reason: object) -> ConfigError:
        told = " ".join(str(reason).split())[:300]
        return ConfigError(
            f"is {self.config.name}, which does not fit {type(network).__name__}: {told}",
            where="method.name",
            expected="another method, or other method.target_modules" if self.config.merges else "lora, ia3 or full",
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Without what peft and transformers say to programmers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def count_weights(network: Any) -> tuple[int, int]:
    """Weights that are trained, and all of them, the adapter's included; also of a network in partitions."""
    from pretrain.engine.task_partitioning import whole_shape

    sizes = [(math.prod(whole_shape(parameter)), parameter.requires_grad) for parameter in network.parameters()]
    return sum(size for size, is_trained in sizes if is_trained), sum(size for size, _ in sizes)


def _add_missing(file: Path, complete: Path) -> None:
    """Add the tensors that another file has beside those of LoRA: peft's conversion leaves out the new head."""
    from safetensors.torch import load_file, save_file

    kept = {name: tensor for name, tensor in load_file(complete).items() if ".lora_" not in name}
    save_file(load_file(file) | kept, file, metadata={"format": "pt"})


def fill(network: Any, weights: Mapping[str, torch.Tensor]) -> None:
    """Give those parameters that are named their values."""
    import torch

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def _without_virtual_tokens(model: Any, inputs: Any, output: Any) -> Any:
    """Logits of the text alone, as those of other methods are."""
    output.logits = output.logits[:, model.peft_config[ADAPTER].num_virtual_tokens :]
    return output


def losses_of(task: FinetuneTask, network: Any, part: EncodedPart, numbers: Sequence[int]) -> torch.Tensor:
    """Losses of some examples of a part, fp64, without gradients."""
    import torch

    with torch.no_grad():
        return task.losses(network, part, numbers, torch.device("cpu")).double()
