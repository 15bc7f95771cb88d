"""What every task with examples in files is told about them: which files, and how they are split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, model_validator

from configs.section import Section
from data_prep.config import Paths
from data_prep.reading.encodings import canonical_encoding


class ExamplesData(Section):
    """Files of examples, and how they are split."""

    renamed: ClassVar[Mapping[str, str]] = {part: f"{part}_texts" for part in ("train", "validation", "test")}

    train_texts: Paths
    """Files to learn from: JSON lines or JSON, CSV, TSV (also .gz, .zst), Parquet, or a saved Hugging Face dataset,
    as far as the task reads these."""
    validation_texts: Paths | None = None
    """Files that choose the best epoch; null: a part of `train_texts`, as `split` says."""
    test_texts: Paths | None = None
    """Files of the final figures; null: a part of `train_texts`, as `split` says, or none where that says 0."""
    encoding: Annotated[str, AfterValidator(canonical_encoding)] = "utf-8"
    """Encoding of the files, as Python names it, such as `gb18030`; of Parquet and datasets it does not matter."""
    id_field: str = "id"
    """Field that names an example in the predictions; where it is missing, file and position do."""
    max_malformed_share: float = Field(default=0.0, ge=0, le=1)
    """Share of a part's records that may be unusable: up to it they are left out and counted, above it the run ends;
    with 0 the first one ends it."""
    split: tuple[float, float, float] = (0.8, 0.1, 0.1)
    """Shares of `train_texts` that train, validate and test; the last two count only where no files are named. With a
    last share of 0 there is no test part."""
    split_by: str | None = None
    """Field whose equal values stay on one side of the split, such as `package`; null: the text itself."""
    max_train_samples: int | None = Field(default=None, ge=1)
    """Training examples, chosen by the seed; null: all."""
    max_eval_samples: int | None = Field(default=None, ge=1)
    """The same for validation and for test."""

    @model_validator(mode="after")
    def _split_sums(self) -> ExamplesData:
        if abs(sum(self.split) - 1.0) > 1e-6 or min(self.split) < 0 or self.split[0] <= 0:
            raise ValueError("split must be three shares that sum to 1, the first above 0, such as [0.8, 0.1, 0.1]")
        return self
