"""The declaration of a mixture of objectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, field_validator
from pydantic_core import CoreSchema

from configs.errors import ConfigError
from configs.kinds import ChosenBy
from configs.section import Section
from pretrain.config.kinds import OBJECTIVES
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig, SampleCutting
from pretrain.objectives.denoising_config import uncut_targets


class _OneOfObjectives:
    """`ChosenBy(OBJECTIVES)` whose schema for editors stops here: objectives have mixtures among them."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return ChosenBy(OBJECTIVES).__get_pydantic_core_schema__(source, handler)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


class MixturePart(Section):
    """One objective of a mixture."""

    weight: float = Field(default=1.0, gt=0)
    """Its share of the samples and of the loss that is trained, relative to the others."""
    objective: Annotated[ObjectiveConfig, _OneOfObjectives()] = Field(examples=[{"name": "causal"}])
    """The objective, by its own keys; `name` chooses it. No mixture again."""


_EXAMPLE = {name: {"weight": 0.5, "objective": {"name": name}} for name in ("causal", "prefix")}


class MixtureConfig(ObjectiveConfig):
    """Several objectives in one run: each sample is read by one of them, drawn by weight."""

    implementation: ClassVar[str] = "pretrain.objectives.mixture:MixtureObjective"

    name: str = "mixture"
    """Which objective it is."""
    parts: dict[str, MixturePart] = Field(examples=[_EXAMPLE])
    """The objectives, two or more, under the names that their losses and figures have, such as `causal/loss`."""

    @field_validator("parts")
    @classmethod
    def _several(cls, parts: dict[str, MixturePart]) -> dict[str, MixturePart]:
        if len(parts) < 2:
            raise ValueError(f"parts has {len(parts)} of them; expected two or more, else objective.name of the one")
        for name, part in parts.items():
            if not name.isidentifier():
                # A part of curves' names, which a slash would cut in two.
                raise ValueError(f"{name!r} cannot be the name of a part; expected letters, digits and _, such as fim")
            if isinstance(part.objective, MixtureConfig):
                raise ValueError(f"{name} is a mixture again; expected its parts beside the others")
        return parts

    @property
    def shares(self) -> dict[str, float]:
        """The weights, which sum to 1."""
        total = sum(part.weight for part in self.parts.values())
        return {name: part.weight / total for name, part in self.parts.items()}

    @property
    def labels_special_tokens(self) -> bool:  # type: ignore[override]
        """See the base class."""
        return any(part.objective.labels_special_tokens for part in self.parts.values())

    @property
    def puts_special_tokens(self) -> bool:
        """See the base class."""
        return any(part.objective.puts_special_tokens for part in self.parts.values())

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """The cutting of every part; documents are marked where one of them needs it.

        Where all parts read samples that are shorter than their own, the shortest are cut.

        Raises:
            ConfigError: a part cannot read documents apart, or the parts want samples that are cut otherwise.
        """
        found = {
            name: part.objective.sampling(model, documents_apart=documents_apart) for name, part in self.parts.items()
        }
        if all(part.objective.takes_shorter_samples for part in self.parts.values()):
            shortest = min(cutting.stride_tokens for cutting in found.values())
            found = {name: replace(cutting, stride_tokens=shortest) for name, cutting in found.items()}
        (first, cutting), *others = found.items()
        for name, other in others:
            if replace(other, marks_documents=False) != replace(cutting, marks_documents=False):
                raise ConfigError(
                    f"{first} reads samples of {_told(cutting)}, and {name} of {_told(other)}",
                    where="objective.parts",
                    expected="objectives that cut the corpus alike, such as causal, fill_in_middle and prefix, or those"
                    " of encoder-decoders, text_infilling with permute_sentences=false",
                )
        return replace(cutting, marks_documents=any(each.marks_documents for each in found.values()))

    def resolved(self) -> dict[str, Any]:
        """See the base class; without what evaluations alone read."""
        parts = {}
        for name, part in self.parts.items():
            keys = part.objective.resolved().items()
            kept = {key: value for key, value in keys if key not in part.objective.evaluation_keys}
            parts[name] = {"weight": self.shares[name], "objective": kept}
        return {"name": self.name, "parts": parts}

    def evaluated(self) -> dict[str, Any]:
        """See the base class."""
        parts = {name: part.objective.evaluated() for name, part in self.parts.items()}
        return {"name": self.name, "shares": self.shares, "parts": parts}

    def notes(self) -> list[str]:
        """See the base class."""
        return [note for part in self.parts.values() for note in part.objective.notes()]

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class; that of its parts, and whether they fit together."""
        found = [
            f"objective.parts.{name}: {problem}"
            for name, part in self.parts.items()
            for problem in part.objective.problems(model)
        ]
        found += [
            f"objective.parts.{name} reads rows of several lengths, and the rows of a mixture have one; expected"
            f" objective.parts.{name}.objective.length_schedule=null"
            for name, part in self.parts.items()
            if part.objective.lengths(model) != (model.seq_length,)
        ]
        return found or self._cutting_problems(model)

    def _cutting_problems(self, model: ModelConfig) -> list[str]:
        """Why there is no cutting of samples for all parts, whether documents are read apart or not."""
        refused = []
        for documents_apart in (False, True):
            try:
                self.sampling(model, documents_apart=documents_apart)
            except ConfigError as error:
                refused.append(error)
        if len(refused) < 2:
            return []  # the run asks with what it says of documents
        for refusal in refused:
            if refusal.where == "objective.parts":
                return [f"{refusal.where}: {refusal.problem}; expected {refusal.expected}"]
        return [
            "objective.parts: one of them needs data.reset_attention_at_documents=true and another one false;"
            " expected objectives that read documents alike"
        ]

    def layout_problems(self, model: ModelConfig, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """See the base class."""
        if model.is_encoder_decoder:
            # All targets are as long as the longest; those of a part alone do not count.
            return uncut_targets(self, model, sizes["tensor"]) if sequence_parallel else []
        return [
            f"objective.parts.{name}: {problem}"
            for name, part in self.parts.items()
            for problem in part.objective.layout_problems(model, sizes, sequence_parallel=sequence_parallel)
        ]

    def target_tokens(self, model: ModelConfig) -> int | None:
        """See the base class; those of the part with the longest ones."""
        lengths = [part.objective.target_tokens(model) for part in self.parts.values()]
        return max((length for length in lengths if length is not None), default=None)

    def num_sentinels(self, model: ModelConfig) -> int:
        """See the base class; the parts have them in common."""
        return max(part.objective.num_sentinels(model) for part in self.parts.values())

    @property
    def reads_words(self) -> bool:
        """See the base class."""
        return any(part.objective.reads_words for part in self.parts.values())

    def roles(self) -> tuple[str, ...]:
        """See the base class."""
        return tuple(dict.fromkeys(role for part in self.parts.values() for role in part.objective.roles()))


def _told(cutting: SampleCutting) -> str:
    overlap = f" and {cutting.overlap_tokens} of the next" if cutting.overlap_tokens else ""
    return f"{cutting.stride_tokens} tokens{overlap} by {cutting.index.rpartition(':')[2]}"
