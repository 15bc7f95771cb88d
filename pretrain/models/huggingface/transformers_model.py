"""Transformers models from a config and tensors in memory, and from a directory, with errors instead of warnings."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, nearest
from pretrain.models.huggingface.config_fields import older_spellings
from pretrain.models.huggingface.own_classes import is_own_class, register_own_classes
from pretrain.models.huggingface.rules import PRESENT_NAMES

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def model_from_tensors(hf_config: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> PreTrainedModel:
    """The model of `architectures` in fp32 and evaluation mode that holds exactly `tensors`.

    Raises:
        ValueError: if a tensor of the model is not among them, or one of them is not in the model.
    """
    import transformers

    with quiet_transformers():
        config = transformers.AutoConfig.for_model(**dict(hf_config))
        model = getattr(transformers, hf_config["architectures"][0])(config).to(_float32())
    _untie(model, tensors)
    missing, unexpected = _fill(model, tensors)
    if missing or unexpected:
        raise ValueError(f"{type(model).__name__}: missing {missing[:3]}, unexpected {unexpected[:3]}")
    return model.eval()


def load_config(directory: Path) -> dict[str, Any]:
    """The complete config of a Hugging Face model directory.

    Raises:
        DataError: if it is not such a directory; names the nearest one beside it.
    """
    if not directory.is_dir():
        siblings = [p.name for p in directory.parent.iterdir() if p.is_dir()] if directory.parent.is_dir() else []
        close = nearest(directory.name, siblings)
        raise DataError(
            "there is no such directory",
            where=directory,
            expected="a directory that `python -m finetune export` wrote",
            nearest=str(directory.parent / close) if close else None,
        )
    if not (directory / "config.json").is_file():
        raise DataError(
            "holds no config.json",
            where=directory,
            expected="a Hugging Face model directory; `python -m finetune export` makes one from a training run",
        )
    from transformers import AutoConfig

    try:
        if is_own_class(str(json.loads((directory / "config.json").read_text("utf-8")).get("model_type"))):
            register_own_classes()
        # Code of the directory is never run, and nobody is asked whether it may be.
        found = AutoConfig.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
        config: dict[str, Any] = found.to_dict()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise DataError(f"is not a usable config ({_first_line(error)})", where=directory / "config.json") from None
    return config


def load_pretrained(directory: Path, dtype: str | None = None) -> PreTrainedModel:
    """The language model of a directory, with the heads that it was pretrained with, in evaluation mode.

    Args:
        directory: a Hugging Face model directory with safetensors weights (pickled ones are never read).
        dtype: `float32`, `bfloat16`, or None for the one it was saved in.

    Raises:
        DataError: not such a directory, or weights that are damaged, missing or left over.
    """
    cls, name = _architecture(directory)
    if cls is None or "Classification" in name:
        raise DataError(f"holds a {name}", where=directory, expected="a language model, such as LlamaForCausalLM")
    return load_weights(cls, directory, dtype)


def load_causal(directory: Path, dtype: str | None = None) -> PreTrainedModel:
    """As `load_pretrained`, of a causal language model.

    Raises:
        DataError: as `load_pretrained`, or another kind of language model.
    """
    cls, name = _architecture(directory)
    refuse_not_causal(name, directory)
    return load_weights(cls, directory, dtype)


def refuse_not_causal(name: str, where: Path) -> None:
    """Refuse a class of models that does not predict the next token.

    Raises:
        DataError: names it and `where`.
    """
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if not hasattr(transformers, name) or name not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise DataError(f"holds a {name}", where=where, expected="a causal language model, such as LlamaForCausalLM")


def load_weights(
    cls: Any,
    directory: Path,
    dtype: str | None = None,
    *,
    config: Any = None,
    refused: Sequence[str] = ("missing_keys", "unexpected_keys", "mismatched_keys"),
) -> PreTrainedModel:
    """`cls.from_pretrained` from local safetensors, refusing what it would only warn about; runs no code of theirs.

    Args:
        cls: the class.
        directory: where its weights are.
        dtype: `float32`, `bfloat16`, or None for the one it was saved in.
        config: in place of the directory's own, such as one with fewer layers.
        refused: what of transformers' report is an error.

    Raises:
        DataError: damaged, missing or left-over weights.
    """
    from safetensors import SafetensorError

    own: dict[str, Any] = {"local_files_only": True, "use_safetensors": True}
    if config is not None:
        own["config"] = config
    if cls.__module__.startswith("transformers.models.auto."):
        own["trust_remote_code"] = False
    try:
        with quiet_transformers():
            model, report = cls.from_pretrained(directory, dtype=dtype or "auto", output_loading_info=True, **own)
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise DataError(f"the weights cannot be read ({_first_line(error)})", where=directory) from None
    for kind in refused:
        if report.get(kind):
            names = sorted(str(key) for key in report[kind])
            raise DataError(f"{kind.replace('_', ' ')}: {', '.join(names[:3])}", where=directory)
    return model.eval()


def save_weights(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write a safetensors file that transformers reads, with the permissions that new files have."""
    from safetensors.torch import save_file

    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(mode)  # safetensors leaves it to the owner alone


def add_older_spellings(directory: Path) -> None:
    """Let the `config.json` of a directory say what readers older than transformers 5 look for under other names."""
    path = directory / "config.json"
    fields = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps(fields | older_spellings(fields), indent=2) + "\n", "utf-8")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """No progress bars and advice from transformers inside; its errors still come as exceptions."""
    from transformers.utils import logging as transformers_logging

    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity(logging.ERROR)
    bar = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def _architecture(directory: Path) -> tuple[Any, str]:
    """The class of a directory's model, None where transformers has none, and its name."""
    config = load_config(directory)
    import transformers

    names = config.get("architectures") or []
    return (getattr(transformers, names[0], None), names[0]) if names else (None, "model without architecture")


def _fill(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> tuple[list[str], list[str]]:
    """Copy `tensors` into the model; returns the names that it lacks then, and those that it does not have."""
    by_name = dict(model.named_parameters(remove_duplicate=False))
    named = {name if name in by_name else PRESENT_NAMES.get(name, name): tensor for name, tensor in tensors.items()}
    result = model.load_state_dict(named, strict=False)
    filled = {id(by_name[name]) for name in named if name in by_name}
    missing = [name for name in result.missing_keys if id(by_name.get(name)) not in filled]  # tied ones are not
    return sorted(missing), sorted(result.unexpected_keys)


def _untie(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give parameters that the class has tied, and for which there are different tensors, memory of their own.

    `from_pretrained` does so, too (transformers 5 ties the output layer of every T5 at first).
    """
    import torch

    first: dict[int, torch.Tensor] = {}
    for name, parameter in list(model.named_parameters(remove_duplicate=False)):
        if name not in tensors:
            continue
        known = first.setdefault(id(parameter), tensors[name])
        if known is not tensors[name] and not torch.equal(known, tensors[name]):
            owner, _, attribute = name.rpartition(".")
            setattr(model.get_submodule(owner), attribute, torch.nn.Parameter(torch.empty_like(parameter)))


def _float32() -> torch.dtype:
    import torch

    return torch.float32


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
