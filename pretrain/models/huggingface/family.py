"""Which class of Hugging Face's transformers computes what a model computes: chosen by name, found by asking.

A model's declaration names candidates; the first that finds no obstacle to the model is its counterpart. Needs neither
torch nor transformers, so that the start of pretraining can say that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from configs.errors import ConfigError, DataError
from configs.kinds import resolve
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.config_fields import NO_IDS, RoleIds
from pretrain.models.huggingface.obstacles import Obstacle

if TYPE_CHECKING:
    from pretrain.models.huggingface.rules import Rule

HUGGING_FACE_FAMILIES: Mapping[str, str] = {
    "llama": "pretrain.models.huggingface.llama:Llama",
    "gpt2": "pretrain.models.huggingface.gpt2:GPT2",
    "starcoder2": "pretrain.models.huggingface.starcoder2:Starcoder2",
    "bert": "pretrain.models.huggingface.bert:Bert",
    "megatron-bert": "pretrain.models.huggingface.megatron_bert:MegatronBert",
    "roberta": "pretrain.models.huggingface.roberta:Roberta",
    "modernbert": "pretrain.models.huggingface.modernbert:ModernBert",
}
"""The implementation of each known `model_type`, as `module:Class`."""


class HuggingFaceFamily(Protocol):
    """One `model_type` of transformers. Made without arguments; imports neither torch nor transformers by itself."""

    model_type: str
    """As `config.json` says it."""
    classes: Mapping[str, str]
    """Name of the transformers class by head: `causal`, `masked`, `pretraining` (masked and pair), `classification`."""
    poolings: Mapping[str, Mapping[str, Any]]
    """Where the classification class can read a text (`last`, `first`, `mean`), its usual place first, each with the
    config fields that ask for it."""

    def head(self, model: Any) -> str:
        """Which of `classes` holds everything that the model was pretrained with."""
        ...

    def obstacle(self, model: Any) -> Obstacle | None:
        """What of the model no class of this type computes; None: the classes compute the same."""
        ...

    def to_config(self, model: Any, ids: RoleIds) -> dict[str, Any]:
        """The keyword arguments of the transformers config class, beside those that `to_config` of this module adds.

        Args:
            model: has no obstacle; `vocab_size` is known.
            ids: of the tokenizer.
        """
        ...

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> ModelConfig:
        """The model that a complete config describes.

        Args:
            fields: as `PreTrainedConfig.to_dict` gives them.
            where: names the source in errors.

        Raises:
            DataError: it has a feature that ours does not have.
        """
        ...

    def rules(self, model: Any, ids: RoleIds) -> list[Rule]:
        """How each tensor of the model maps to one of the class with the model's head, in the order of the network."""
        ...


_SEES_BOTH_SIDES = {"causal": False, "masked": True, "pretraining": True}


def load_family(name: str) -> HuggingFaceFamily:
    """The family called `name`, one of `HUGGING_FACE_FAMILIES` or `module:Class`."""
    family: HuggingFaceFamily = resolve(HUGGING_FACE_FAMILIES.get(name, name))()
    return family


def counterpart_of(model: ModelConfig) -> HuggingFaceFamily:
    """The family whose classes compute exactly what `model` computes.

    Raises:
        ConfigError: there is none; names the key that stands in the way of the nearest, and what is supported.
    """
    for family in _candidates(model):
        if family.obstacle(model) is None:
            return family
    nearest, obstacles = _obstacles(model)
    raise nearest.error([obstacle.supported for obstacle in obstacles])


def obstacle_to_export(model: ModelConfig) -> str | None:
    """What of `model` no class of transformers computes, such as `model.bias=false`; None: it can be exported."""
    if any(family.obstacle(model) is None for family in _candidates(model)):
        return None
    return str(_obstacles(model)[0])


def to_config(model: ModelConfig, ids: RoleIds = NO_IDS) -> dict[str, Any]:
    """The keyword arguments of the transformers config class, `model_type` and `architectures` among them.

    The vocabulary is the tokenizer's (`vocab_size`): the padded rows of the embedding are not exported.

    Raises:
        ConfigError: no class fits, or `vocab_size` is null.
    """
    family = counterpart_of(model)
    if model.vocab_size is None:
        raise ConfigError("is null", where="model.vocab_size", expected="the number of token ids")
    return {
        "model_type": family.model_type,
        "architectures": [class_name(model)],
        "vocab_size": model.vocab_size,
        "initializer_range": model.init_std,
        "bos_token_id": ids.begin_of_document,
        "eos_token_id": ids.end_of_document,
        "pad_token_id": ids.pad,
        **family.to_config(model, ids),
    }


def from_config(fields: Mapping[str, Any], where: Path | str = "config.json") -> ModelConfig:
    """The model that a Hugging Face config describes, its vocabulary padded to a multiple of 128.

    Args:
        fields: the parsed `config.json`, complete (as `PreTrainedConfig.to_dict` gives it).
        where: names the source in errors.

    Raises:
        DataError: an architecture or a feature that our models do not have.
    """
    name = str(fields.get("model_type"))
    if name not in HUGGING_FACE_FAMILIES:
        known = ", ".join(HUGGING_FACE_FAMILIES)
        raise DataError(f"model_type is {name!r}", where=where, expected=f"one of {known}")
    try:
        return load_family(name).from_config(fields, where)
    except KeyError as error:
        raise DataError(f"says nothing of {error}", where=where, expected=f"a complete config of {name}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "its sizes"
        raise DataError(f"describes a model that cannot be built: {key}: {first['msg']}", where=where) from None


def sees_both_sides(model: ModelConfig) -> bool:
    """Whether the class of a model fills masks (heads `masked`, `pretraining`) rather than continues text (`causal`).

    Raises:
        ConfigError: no class fits, or it has a head of another kind, which nothing here can check and describe.
    """
    head = counterpart_of(model).head(model)
    if head not in _SEES_BOTH_SIDES:
        raise ConfigError(
            f"has the head {head!r}, which cannot be exported",
            where=f"model.name = {model.name}",
            expected=f"one of {', '.join(_SEES_BOTH_SIDES)}",
        )
    return _SEES_BOTH_SIDES[head]


def class_name(model: ModelConfig, head: str | None = None) -> str:
    """Name of the transformers class, such as `LlamaForCausalLM`.

    Args:
        model: ours.
        head: what the class is for; None: what the model was pretrained for.

    Raises:
        ConfigError: there is none.
    """
    family = counterpart_of(model)
    return family.classes[head or family.head(model)]


def _candidates(model: ModelConfig) -> Iterator[HuggingFaceFamily]:
    return (load_family(name) for name in model.huggingface)


def _obstacles(model: ModelConfig) -> tuple[Obstacle, list[Obstacle]]:
    """Of a model without counterpart: the obstacle of the nearest candidate, and those of all."""
    found = [family.obstacle(model) for family in _candidates(model)]
    obstacles = [obstacle for obstacle in found if obstacle is not None]
    if not obstacles:
        obstacles = [Obstacle("name", model.name, "another", (), "a family that names a transformers class")]
    return max(obstacles, key=lambda obstacle: len(obstacle.beside)), obstacles
