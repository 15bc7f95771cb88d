"""What a run reads: training mixtures, held-out sets, the split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from configs.paths import InputPath, OutputPath
from configs.section import Section


class WeightedCorpus(Section):
    """One corpus of a mixture."""

    corpus: InputPath = Field(examples=["runs/corpus"])
    """A corpus directory that `python -m data_prep tokenize` wrote, or a bare Megatron prefix (without .bin/.idx)."""
    weight: float = Field(default=1.0, gt=0, examples=[0.5])
    """Share of the samples that come from it, relative to the other weights."""


def _as_corpora(value: Any) -> Any:
    items = value if isinstance(value, list) else [value]
    by_path = [
        item for item in items if isinstance(item, dict) and len(item) > 0 and not {"corpus", "weight"} & set(item)
    ]
    if by_path:
        meant = [f"{{corpus: {path}, weight: {weight}}}" for item in by_path for path, weight in item.items()]
        raise ValueError(f"{by_path[0]} names no corpus; expected {{corpus, weight}}, such as [{', '.join(meant)}]")
    return [{"corpus": item} if isinstance(item, str | Path) else item for item in items]


def _as_sets(value: Any, name: str) -> Any:
    """A set without a name gets `name`: `data.validation=PATH` or `{corpus: PATH}`, as `data.train`."""
    # A set that is called `corpus` has a list: {corpus: [PATH]}.
    if isinstance(value, dict) and set(value) <= {"corpus", "weight"} and isinstance(value.get("corpus"), str | Path):
        return {name: value}
    if isinstance(value, str | Path | list):
        return {name: value}
    return value


Mixture = Annotated[list[WeightedCorpus], BeforeValidator(_as_corpora), Field(min_length=1)]


class DataConfig(Section):
    """What is read."""

    train: Mixture
    """The training mixture: one path, or a list of paths or of {corpus, weight}."""
    validation: dict[str, Mixture] = {}
    """Validation sets by name, or one path or {corpus: PATH}; empty: the validation part of the training corpora, named
    `validation`. A set called `corpus` is a list: {corpus: [PATH]}."""
    test: dict[str, Mixture] = {}
    """Test sets by name, or one path, evaluated once at the end; empty: the test part of the training corpora."""
    split: tuple[float, float, float] = (0.98, 0.01, 0.01)
    """Shares of each training corpus' documents that train, validate and test; a hash of its number places each."""
    tokenizer: InputPath | None = None
    """Tokenizer directory; null: the copy that lies in the first training corpus."""
    reset_attention_at_documents: bool = False
    """Whether a token attends only within its own document of a packed sample (positions restart, too)."""
    index_cache: OutputPath | None = None
    """Where the sample index is kept, on a disk local to the machine; null: `<output>/index`."""
    prefetch_batches: int = Field(default=2, ge=0)
    """Global batches that are read ahead."""

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _sets(cls, value: Any, info: ValidationInfo) -> Any:
        assert info.field_name is not None
        return _as_sets(value, info.field_name)

    @field_validator("validation", "test")
    @classmethod
    def _named(cls, sets: dict[str, list[WeightedCorpus]]) -> dict[str, list[WeightedCorpus]]:
        for name in sets:
            # A name is a part of curves' names, which a slash would cut in two, and of lines of text.
            if not name or name != name.strip() or not name.isprintable() or set(name) & set("/\\"):
                raise ValueError(
                    f"{name!r} cannot be the name of a set; expected visible characters without slashes, such as 'wiki'"
                )
        return sets

    @model_validator(mode="after")
    def _names_differ(self) -> DataConfig:
        # Records and curves know a set by its name alone.
        names = {part: set(getattr(self, part)) or {part} for part in ("validation", "test")}
        if not self.test and self.split[2] == 0:
            names["test"] = set()
        if not self.validation and self.split[1] == 0:
            names["validation"] = set()
        for name in sorted(names["validation"] & names["test"]):
            other = next((part for part in names if not getattr(self, part)), None)
            meant = "in data.validation and in data.test" if other is None else f"the default name of the {other} set"
            raise ValueError(f"two sets are called {name!r} ({meant}); expected a name of its own for each")
        return self

    @model_validator(mode="after")
    def _split_sums(self) -> DataConfig:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.98, 0.01, 0.01]")
        return self
