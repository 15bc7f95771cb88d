"""Which records of files a saved model predicts, read as its training read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from configs.errors import DataError
from finetune.tasks.example_files import identity
from finetune.tasks.examples_config import ExamplesData

if TYPE_CHECKING:
    from data_prep.config import SourceConfig
    from data_prep.reading.documents import Document
    from data_prep.reading.inputs import InputFile


@dataclass(frozen=True)
class PredictInput:
    """Which texts are read.

    Attributes:
        files: files, directories or patterns; a plain text file has a text in each line.
        text_field: field of a record that holds its text; None: as in the model's recipe.
        id_field: field that names a record in the output; where it is missing, file and position do.
        max_bad_share: of the records that may be unusable: left out and counted.
        encoding: of the files; None: as in the model's recipe.
        quoting: of tables; None: as in the model's recipe.
    """

    files: Sequence[str]
    text_field: str | None = None
    id_field: str = "id"
    max_bad_share: float = 0.01
    encoding: str | None = None
    quoting: Literal["double", "none"] | None = None


@dataclass(frozen=True)
class InputForm:
    """What a record is to a saved model.

    Attributes:
        text_field: the field without which a record is none.
        parse: a record, its name, and how messages call it -> what is predicted, which has an `id`; raises `DataError`.
        length: of what is predicted: similar ones go through the model together.
        settings: what else the readers are told, as `SourceConfig` calls it.
        whole_file: makes documents of a file that is one record as a whole; None for a file that is not.
    """

    text_field: str
    parse: Callable[[Document, str, str], Any]
    length: Callable[[Any], int]
    settings: Mapping[str, Any] = field(default_factory=dict)
    whole_file: Callable[[InputFile, SourceConfig], Iterable[Document] | None] | None = None


def as_in_training(data: ExamplesData) -> dict[str, Any]:
    """How a recipe says that its files are read, for `InputForm.settings`."""
    return {"encoding": data.encoding, "quoting": getattr(data, "quoting", None)}


class InputRecords:
    """The records of files that can be predicted, in their order; what cannot be used is counted.

    Args:
        form: what a record is.
        given: which files.
    """

    def __init__(self, form: InputForm, given: PredictInput) -> None:
        from data_prep.config import SourceConfig
        from data_prep.reading.documents import ReadCounts

        self.form, self.given = form, given
        self._counts, self._unusable = ReadCounts(), list[str]()
        told = {"text_field": form.text_field, "text_documents": "line", **form.settings, "malformed": "skip"}
        asked = {"encoding": given.encoding, "quoting": given.quoting}
        told |= {key: value for key, value in asked.items() if value is not None}
        self.source = SourceConfig.model_validate({"input": list(given.files), **told})

    @property
    def bad(self) -> int:
        """Records that cannot be used; complete after the iteration."""
        return self._counts.records + len(self._unusable)

    @property
    def first_bad(self) -> str:
        """The first of them, for people."""
        return next(iter([*self._counts.first, *self._unusable]), "")

    def __iter__(self) -> Iterator[Any]:
        from data_prep.reading.inputs import find_files

        for file in find_files(self.source):
            for document in self._documents(file):
                if file.kind == "text" and not document.text.strip():  # an empty line is no record
                    continue
                name = identity(document, self.given.id_field)
                try:
                    yield self.form.parse(document, name, f"{file.path}, {name}")
                except DataError as error:
                    self._unusable.append(f"{error.where}: {error.problem}")

    def check(self, used: int) -> None:
        """Refuse too many records that cannot be used, and an input without any; called after the iteration.

        Args:
            used: records that can be.

        Raises:
            DataError: names the first bad one.
        """
        if self.bad > self.given.max_bad_share * (used + self.bad):
            raise DataError(
                f"{self.bad:,} of {used + self.bad:,} records cannot be used, the first: {self.first_bad}",
                where="--input",
                expected=f"at most {self.given.max_bad_share:.2%} of them, --max-bad-share",
            )
        if not used:
            raise DataError("holds no texts", where="--input", expected="at least one")

    def _documents(self, file: InputFile) -> Iterator[Document]:
        from data_prep.reading.inputs import work_units
        from data_prep.reading.readers import read_documents

        whole = self.form.whole_file(file, self.source) if self.form.whole_file is not None else None
        if whole is not None:
            yield from whole
            return
        for unit in work_units([file], self.source):
            yield from read_documents(unit, self.source, self._counts)
