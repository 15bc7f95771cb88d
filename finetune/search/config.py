"""What is tried: values or ranges of any settings of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from configs.section import Section

NOT_TRIED = (
    *("name", "output", "overwrite", "search", "seed", "seeds", "baselines"),
    *("training.select_by", "training.resume", "training.device", "training.tensorboard", "training.log_interval"),
    *("data.train_texts", "data.validation_texts", "data.test_texts", "data.split", "data.split_by"),
    *("data.labels", "data.min_label_count", "data.max_eval_samples"),
)
"""Keys that would change what the trials are measured by or on, or nothing that is measured."""


class SearchRange(Section):
    """Numbers from `low` to `high`, both included: whole ones where both are."""

    low: int | float
    """The smallest."""
    high: int | float
    """The largest."""
    log: bool = False
    """Whether equal ratios are as probable as each other, as rates want it, in place of equal differences."""

    @model_validator(mode="after")
    def _ordered(self) -> SearchRange:
        if self.low >= self.high:
            raise ValueError(f"low is {self.low} and high is {self.high}; expected a smaller low")
        if self.log and self.low <= 0:
            raise ValueError(f"low is {self.low} and log is true; expected a low above 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)


TriedValue = bool | int | float | str | list[str]
Tried = SearchRange | Annotated[list[TriedValue], Field(min_length=1)]


def _flat(space: object) -> object:
    """Keys below keys as one key with dots: `{optimizer: {lr: [...]}}` as `{optimizer.lr: [...]}`."""
    if not isinstance(space, Mapping):
        return space
    found: dict[str, Any] = {}
    for key, value in space.items():
        below = _flat(value) if isinstance(value, Mapping) and not value.keys() & {"low", "high"} else None
        found |= {f"{key}.{name}": tried for name, tried in below.items()} if isinstance(below, dict) else {key: value}
    return found


class SearchConfig(Section):
    """Several trainings with different settings, of which the best by `training.select_by` is told."""

    space: Annotated[
        dict[str, Tried], BeforeValidator(_flat), Field(min_length=1, examples=[{"optimizer.lr": [1e-4, 3e-4]}])
    ]
    """Settings of the task with what is tried of each: a list of values, or a range `{low: 1e-5, high: 1e-3, log:
    true}`. Keys of one kind, such as `method.r`, count only in trials that choose a kind which has them."""
    trials: int = Field(default=20, gt=0)
    """Trainings at most; a grid may have fewer."""
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    """How values are chosen: by the trials before (tree-structured Parzen estimator, Bergstra et al. 2011), at random,
    or all combinations of lists in their order."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Decides the values; how each trial is trained is decided by the task's own seed, the same for all."""

    @model_validator(mode="after")
    def _can_be_tried(self) -> SearchConfig:
        for key, tried in self.space.items():
            if any(key == never or key.startswith(f"{never}.") for never in NOT_TRIED):
                raise ValueError(f"space has {key}, which is the same in all trials; expected other keys")
            if isinstance(tried, list) and any(tried.count(value) > 1 for value in tried):
                raise ValueError(f"space.{key} is {tried}; expected different values")
            if isinstance(tried, SearchRange) and self.sampler == "grid":
                raise ValueError(f"space.{key} is a range and sampler is grid; expected a list, or another sampler")
        return self
