"""The declarations of the methods: what is trained, and what cannot be together with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol

from pydantic import Field

from configs.kinds import Named
from pretrain.config import OptimizerConfig
from pretrain.config.method import LowRankFields


class TaskSettings(Protocol):
    """What a method asks of the settings of a task (`TaskConfig`, whose section it is)."""

    @property
    def name(self) -> str:
        """Of the task."""
        ...

    @property
    def adapted_as(self) -> str | None:
        """What the network is for in peft's words; None: no adapter fits it."""
        ...

    @property
    def training(self) -> Any:
        """A `TaskTraining`."""
        ...

    @property
    def optimizer(self) -> OptimizerConfig:
        """The optimizer and its schedule."""
        ...


class MethodConfig(Named):
    """How a network is trained. A subclass declares one method, with the keys that only it has."""

    @property
    def needs_whole_weights(self) -> bool:
        """Whether the network has to be whole while it is prepared for the training, also at ZeRO stage 3."""
        return False

    def problems(self, config: TaskSettings) -> list[str]:
        """What stands in the way of this method in a task's settings, in words."""
        return []


class FullConfig(MethodConfig):
    """All weights, or those above `training.freeze_layers`."""

    name: str = "full"
    """Which method it is."""


class AdapterConfig(MethodConfig):
    """Base of the adapters: they and the network's new parts are trained, all else is frozen. Most are peft's."""

    implementation: ClassVar[str] = "finetune.methods.adapter:Adapter"
    peft_class: ClassVar[str] = ""
    """peft's class of the method's config; of an adapter of our own, none."""
    tasks: ClassVar[tuple[str, ...]] = ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS", "LM")
    """Which `TaskConfig.adapted_as` it can be of."""
    merges: ClassVar[bool] = True
    """Whether its adapter can be merged into the weights: the result is then a model like any other."""

    def peft_fields(self) -> dict[str, Any]:
        """Fields of peft's config, but for those that the network decides."""
        raise NotImplementedError

    def problems(self, config: TaskSettings) -> list[str]:
        """See the base class."""
        told, training = f"method.name is {self.name}", config.training
        if config.adapted_as is None:
            return [f"{told}, and no adapter fits the network of {config.name}; expected full"]
        found = []
        if config.adapted_as not in self.tasks:
            found.append(f"{told}, and name is {config.name}: {self._why_not_of_task()}; expected full, lora or ia3")
        chosen: Mapping[str, object] = {
            "training.freeze_layers": training.freeze_layers,
            "training.unfreeze_every": training.unfreeze_every,
            "optimizer.layer_decay": config.optimizer.layer_decay if config.optimizer.layer_decay != 1 else None,
        }
        for key, value in chosen.items():
            if value is not None:
                found.append(f"{told}, which freezes all pretrained layers, and {key} is {value}; expected the default")
        return found

    def _why_not_of_task(self) -> str:
        return "peft has no such adapter for it"


class TargetedConfig(AdapterConfig):
    """Base of the methods that change the output of some of the network's matrices."""

    target_modules: Literal["auto", "all-linear"] | list[str] = "auto"
    """Ends of the names of the modules that it adapts; `all-linear`: every linear layer but the head; `auto`: those
    that peft has for the family of the model, and where it knows none, all linear layers (LoRA)."""


class LoraConfig(LowRankFields, TargetedConfig):
    """LoRA: a product of two thin matrices beside each chosen matrix (Hu et al. 2021)."""

    peft_class: ClassVar[str] = "LoraConfig"

    name: str = "lora"
    """Which method it is."""
    dora: bool = False
    """Whether the norm of each row is trained by itself (DoRA, Liu et al. 2024)."""
    start: Literal["zero", "pissa"] = "zero"
    """Where the product starts: at zero, or as the largest singular vectors of the matrix, of which the rest stays
    frozen (PiSSA, Meng et al. 2024)."""

    def peft_fields(self) -> dict[str, Any]:
        """See the base class."""
        return {
            "r": self.r,
            "lora_alpha": self.alpha,
            "lora_dropout": self.dropout,
            "use_rslora": self.rslora,
            "use_dora": self.dora,
            "init_lora_weights": "pissa" if self.start == "pissa" else True,
        }

    @property
    def needs_whole_weights(self) -> bool:
        """See the base class; PiSSA decomposes the matrices."""
        return self.start == "pissa"

    def problems(self, config: TaskSettings) -> list[str]:
        """See the base class."""
        found = super().problems(config)
        if self.dora and self.start == "pissa":
            found.append("method.dora is true and method.start is pissa, of which each wants its own start")
        if self.dora and config.training.zero_stage == 3:
            found.append(
                "method.dora is true and training.zero_stage is 3: it reads whole matrices outside of their layers;"
                " expected at most 2"
            )
        return found


class Ia3Config(TargetedConfig):
    """IA3: a factor for each output of keys and values, and each input of the feed-forward (Liu et al. 2022)."""

    peft_class: ClassVar[str] = "IA3Config"

    name: str = "ia3"
    """Which method it is."""
    feedforward_modules: list[str] = []
    """Those of `target_modules` whose inputs it scales; with `target_modules=auto` peft knows them."""

    def peft_fields(self) -> dict[str, Any]:
        """See the base class."""
        given = self.target_modules != "auto"
        return {"feedforward_modules": self.feedforward_modules} if given else {}

    def problems(self, config: TaskSettings) -> list[str]:
        """See the base class."""
        found = super().problems(config)
        if self.target_modules == "all-linear":
            found.append("method.target_modules is all-linear; expected auto or a list, as IA3 scales keys and values")
        elif self.target_modules == "auto" and self.feedforward_modules:
            found.append("method.feedforward_modules is given and method.target_modules is auto; expected a list")
        elif not set(self.feedforward_modules) <= set(self.target_modules):
            found.append("method.feedforward_modules is not among method.target_modules; expected a part of them")
        return found


class BottleneckConfig(AdapterConfig):
    """Two thin layers behind sublayers (Houlsby et al. 2019, Pfeiffer et al. 2021); they cannot be merged."""

    implementation: ClassVar[str] = "finetune.methods.bottleneck:BottleneckAdapter"
    merges: ClassVar[bool] = False

    name: str = "bottleneck"
    """Which method it is."""
    size: int = Field(default=64, gt=0)
    """Width between the two layers."""
    placement: Literal["pfeiffer", "houlsby"] = "pfeiffer"
    """Behind the feed-forward of each layer (pfeiffer), or behind the attention, too (houlsby)."""
    activation: Literal["relu", "gelu"] = "relu"
    """What stands between the two layers."""


class VirtualTokensConfig(AdapterConfig):
    """Base of the methods that put trained vectors before the text; they cannot be merged."""

    tasks: ClassVar[tuple[str, ...]] = ("SEQ_CLS", "LM")
    merges: ClassVar[bool] = False

    virtual_tokens: int = Field(default=20, gt=0)
    """Vectors before each text."""

    def peft_fields(self) -> dict[str, Any]:
        """See the base class."""
        return {"num_virtual_tokens": self.virtual_tokens}

    @property
    def needs_whole_weights(self) -> bool:
        """See the base class; that the vectors count is tried before the training."""
        return True

    def problems(self, config: TaskSettings) -> list[str]:
        """See the base class."""
        found = super().problems(config)
        if config.training.adversarial != "none":
            found.append(
                f"method.name is {self.name} and training.adversarial is {config.training.adversarial}, which moves"
                " the embeddings of a text alone; expected none"
            )
        return found

    def _why_not_of_task(self) -> str:
        return "vectors before the text would move the places where its labels are read"


class PrefixTuningConfig(VirtualTokensConfig):
    """Prefix tuning: trained keys and values before those of the text, in each layer (Li & Liang 2021)."""

    peft_class: ClassVar[str] = "PrefixTuningConfig"

    name: str = "prefix"
    """Which method it is."""


class PromptTuningConfig(VirtualTokensConfig):
    """Prompt tuning: trained embeddings before those of the text (Lester et al. 2021)."""

    peft_class: ClassVar[str] = "PromptTuningConfig"

    name: str = "prompt"
    """Which method it is."""

    def peft_fields(self) -> dict[str, Any]:
        """See the base class; of an encoder-decoder, before what the encoder reads."""
        return super().peft_fields() | {"num_transformer_submodules": 1}
