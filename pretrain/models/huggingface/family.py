"""Which class of Hugging Face's transformers computes what a model computes: chosen by name, found by asking.

A name is one of `HUGGING_FACE_FAMILIES`, or somebody else's family as `module:Class`. A model's declaration names
candidates; the first that finds no obstacle to the model is its counterpart. Needs neither torch nor transformers, so
that the start of pretraining can say that there is none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from configs.errors import ConfigError, DataError, nearest
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
    "mistral": "pretrain.models.huggingface.mistral:Mistral",
    "qwen2": "pretrain.models.huggingface.qwen:Qwen2",
    "qwen3": "pretrain.models.huggingface.qwen:Qwen3",
    "gpt_neox": "pretrain.models.huggingface.gpt_neox:GPTNeoX",
    "phi": "pretrain.models.huggingface.phi:Phi",
    "gemma": "pretrain.models.huggingface.gemma:Gemma",
    "gemma2": "pretrain.models.huggingface.gemma:Gemma2",
    "gemma3_text": "pretrain.models.huggingface.gemma:Gemma3Text",
    "olmo2": "pretrain.models.huggingface.olmo2:Olmo2",
    "bert": "pretrain.models.huggingface.bert:Bert",
    "megatron-bert": "pretrain.models.huggingface.megatron_bert:MegatronBert",
    "roberta": "pretrain.models.huggingface.roberta:Roberta",
    "modernbert": "pretrain.models.huggingface.modernbert:ModernBert",
    "t5": "pretrain.models.huggingface.t5:T5",
    "bart": "pretrain.models.huggingface.bart:Bart",
    "mbart": "pretrain.models.huggingface.mbart:MBart",
}
"""The implementation of each known `model_type`, as `module:Class`."""


class HuggingFaceFamily(Protocol):
    """One `model_type` of transformers. Made without arguments; imports neither torch nor transformers by itself."""

    model_type: str
    """As `config.json` says it."""
    classes: Mapping[str, str]
    """Name of the transformers class by head: those that a model can be pretrained with, such as `causal`, `masked` or
    `pretraining` (masked and pair), under names that `head` gives, and `classification`."""
    sees_both_sides: bool
    """Whether the classes of pretraining fill masks, each token seeing the whole text, rather than continue a text."""
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


_FACTS = ("model_type", "classes", "sees_both_sides", "poolings")
"""What every family says of itself."""


def load_family(name: str) -> HuggingFaceFamily:
    """The family called `name`, one of `HUGGING_FACE_FAMILIES` or `module:Class`.

    Raises:
        ConfigError: there is none, its module cannot be imported, or what it names is no family; names the nearest.
    """
    target = HUGGING_FACE_FAMILIES.get(name, name)
    expected = f"one of {', '.join(HUGGING_FACE_FAMILIES)}, or module:Class of a module that can be imported"
    where = f"the Hugging Face family {name!r}"
    if ":" not in target:
        close = nearest(name, HUGGING_FACE_FAMILIES)
        raise ConfigError("is not known", where=where, expected=expected, nearest=close)
    try:
        found = resolve(target)
    except Exception as error:  # whatever somebody else's module does while it is imported
        told = f"cannot be imported ({type(error).__name__}: {error})"
        raise ConfigError(told, where=where, expected=expected) from error
    # Looked at before it is called: a name that comes out of a file may be that of anything.
    if not isinstance(found, type):
        raise ConfigError("is no class", where=where, expected="a class with the attributes of HuggingFaceFamily")
    lacking = [fact for fact in _FACTS if not hasattr(found, fact)]
    if lacking:
        raise ConfigError(f"does not say its {', '.join(lacking)}", where=where, expected=", ".join(_FACTS))
    family: HuggingFaceFamily = found()
    return family


def counterpart_name(model: ModelConfig) -> str:
    """What the model's declaration calls the family whose classes compute exactly what `model` computes.

    Raises:
        ConfigError: there is none; names the key that stands in the way of the nearest, and what is supported.
    """
    for name in model.huggingface:
        if load_family(name).obstacle(model) is None:
            return name
    closest, obstacles = _obstacles(model)
    raise closest.error([obstacle.supported for obstacle in obstacles])


def counterpart_of(model: ModelConfig) -> HuggingFaceFamily:
    """The family whose classes compute exactly what `model` computes.

    Raises:
        ConfigError: as `counterpart_name`.
    """
    return load_family(counterpart_name(model))


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


def from_config(
    fields: Mapping[str, Any], where: Path | str = "config.json", *, family: str | None = None
) -> ModelConfig:
    """The model that a Hugging Face config describes, its vocabulary padded to a multiple of 128.

    Args:
        fields: the parsed `config.json`, complete (as `PreTrainedConfig.to_dict` gives it).
        where: names the source in errors.
        family: which one reads it, as `load_family` takes it; None: the known one of its `model_type`.

    Raises:
        DataError: an architecture or a feature that our models do not have.
        ConfigError: there is no such family.
    """
    name = str(fields.get("model_type")) if family is None else family
    if family is None and name not in HUGGING_FACE_FAMILIES:
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
    """Whether the class of a model fills masks rather than continues text.

    Raises:
        ConfigError: no class fits.
    """
    return counterpart_of(model).sees_both_sides


def class_name(model: ModelConfig, head: str | None = None) -> str:
    """Name of the transformers class, such as `LlamaForCausalLM`.

    Args:
        model: ours.
        head: what the class is for; None: what the model was pretrained for.

    Raises:
        ConfigError: there is none.
    """
    family = counterpart_of(model)
    head = head or family.head(model)
    if head not in family.classes:
        raise ConfigError(
            f"has the head {head!r}, for which {type(family).__name__} names no class",
            where=f"model.name = {model.name}",
            expected=f"one of {', '.join(family.classes)}",
        )
    return family.classes[head]


def _candidates(model: ModelConfig) -> Iterator[HuggingFaceFamily]:
    return (load_family(name) for name in model.huggingface)


def _obstacles(model: ModelConfig) -> tuple[Obstacle, list[Obstacle]]:
    """Of a model without counterpart: the obstacle of the nearest candidate, and those of all."""
    found = [family.obstacle(model) for family in _candidates(model)]
    obstacles = [obstacle for obstacle in found if obstacle is not None]
    if not obstacles:
        obstacles = [Obstacle("name", model.name, "another", (), "a family that names a transformers class")]
    return max(obstacles, key=lambda obstacle: (-obstacle.unmet, obstacle.met)), obstacles
