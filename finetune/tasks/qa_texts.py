"""Questions with contexts and answers: read from SQuAD's JSON or records, split. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from configs.errors import DataError
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, field_value, group_of, identity
from finetune.tasks.example_parts import LeftOut, Repeated, limit_parts, read_parts, repeated_texts
from finetune.tasks.qa_config import QaData

if TYPE_CHECKING:
    from data_prep.config import SourceConfig
    from data_prep.reading.documents import Document
    from data_prep.reading.inputs import InputFile

_KINDS = frozenset(("jsonl", "json", "parquet", "arrow"))
_EXPECTED = "SQuAD's JSON, JSON lines or Parquet with a question, a context and answers"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a text.

    Attributes:
        id: names it in the predictions.
        question: what is asked.
        context: the text.
        answers: each as a text and the character of the context that it begins with; empty: the context has none.
        group: questions of one group stay on one side of the split: those on one context, unless told otherwise.
        label: the same for all: answers are not shared out evenly.
    """

    id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    group: str
    label: str = ""

    @property
    def text(self) -> str:
        """Question and context: what is the same in two parts, if it is."""
        return f"{self.question}\n{self.context}"


@dataclass(frozen=True)
class QuestionParts:
    """What trains, what chooses, what is reported.

    Attributes:
        parts: questions of `train`, `validation` and, if there is such a part, `test`.
        malformed: records that were left out, by the part that names their files.
        repeated: questions that are known, with their context, from another part.
    """

    parts: dict[str, list[Question]]
    malformed: Mapping[str, LeftOut] = field(default_factory=dict)
    repeated: Sequence[Repeated] = ()

    def unanswered(self) -> dict[str, int]:
        """Questions of each part without an answer."""
        return {part: sum(not each.answers for each in questions) for part, questions in self.parts.items()}


def load_questions(data: QaData, seed: int) -> QuestionParts:
    """Read, split, limit; the same for every process.

    Raises:
        DataError: unreadable or malformed input, a file that trains and is measured, a part without questions, no
            answer in training.
    """
    form = RecordForm(data.context_field, _KINDS, _EXPECTED, "data.context_field", whole_file=squad_documents)

    def read(records: Records) -> list[Question]:
        questions = []
        for document, path in records:
            where = f"{path}, {identity(document, data.id_field)}"
            try:
                questions.append(_question(document, data, where))
            except DataError as error:
                records.leave_out(error)
        return questions

    found, malformed = read_parts(data, seed, ExampleReader(data, form), read)
    parts = limit_parts(found, data, seed)
    for part, questions in parts.items():
        if not questions:
            raise DataError("has no questions", where=f"data.{part}_texts", expected="more, or another data.split")
    if not any(question.answers for question in parts["train"]):
        raise DataError("has no question with an answer", where="data.train_texts", expected="at least one")
    return QuestionParts(parts, malformed, list(repeated_texts(parts)))


def squad_documents(file: InputFile, source: SourceConfig) -> Iterator[Document] | None:
    """A document for each question of a file in SQuAD's JSON; None where it is in another form."""
    from data_prep.reading.documents import Document
    from data_prep.reading.files import open_stream, reading

    if file.kind not in ("jsonl", "json"):
        return None
    with open_stream(file.path, source) as stream, reading(file.path):
        content = stream.read()
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict) or not isinstance(found.get("data"), list):
        return None

    def documents() -> Iterator[Document]:
        for article in _dicts(found, "data", file.path):
            for paragraph in _dicts(article, "paragraphs", file.path):
                for asked in _dicts(paragraph, "qas", file.path):
                    fields = {"title": article.get("title"), "context": paragraph.get("context"), **asked}
                    yield Document(str(paragraph.get("context") or ""), str(asked.get("id")), fields)

    return documents()


def _dicts(value: Mapping[str, Any], key: str, path: str) -> Iterator[Mapping[str, Any]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise DataError(f"its {key!r} is no list of objects", where=path, expected="SQuAD's data, paragraphs and qas")
    yield from found


def bare_question(document: Document, data: QaData, name: str, where: str) -> Question:
    """The question of a record, its context, and no answers.

    Args:
        document: the record; its text is the context.
        data: what its fields are called.
        name: of the question.
        where: messages call the record.

    Raises:
        DataError: question or context is missing or empty.
    """
    asked = field_value(document, data.question_field, "data.question_field", where)
    if not isinstance(asked, str) or not asked.strip():
        raise DataError(f"its question is {asked!r}", where=where, expected="a text")
    if not document.text.strip():
        raise DataError("its context is empty", where=where, expected="a text")
    return Question(name, asked.strip(), document.text, (), "")


def _question(document: Document, data: QaData, where: str) -> Question:
    question = bare_question(document, data, identity(document, data.id_field), where)
    given = None
    if not document.metadata.get("is_impossible"):
        given = field_value(document, data.answers_field, "data.answers_field", where)
    answers = tuple(dict.fromkeys(_answers(given, where)))
    for text, start in answers:
        if not text.strip() or start < 0 or document.text[start : start + len(text)] != text:
            stands = document.text[max(start, 0) : max(start, 0) + len(text)]
            raise DataError(
                f"its answer {text[:60]!r} does not stand at character {start}, where {stands[:60]!r} does",
                where=where,
                expected="answer_start counted from 0, in characters",
            )
    return replace(question, answers=answers, group=group_of(document, data.split_by, where))


def _answers(given: Any, where: str) -> Iterator[tuple[str, int]]:
    """Answers in either form that data sets have."""
    if isinstance(given, Mapping):
        texts, starts = given.get("text"), given.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            given = [{"text": text, "answer_start": start} for text, start in zip(texts, starts)]
    if given is None:
        return
    if not isinstance(given, list):
        raise DataError(f"its answers are {given!r}", where=where, expected="texts with answer_start")
    for answer in given:
        text, start = (answer.get("text"), answer.get("answer_start")) if isinstance(answer, dict) else (None, None)
        if not isinstance(text, str) or not isinstance(start, int) or isinstance(start, bool):
            raise DataError(f"its answer is {answer!r}", where=where, expected="text and answer_start")
        yield text, start
