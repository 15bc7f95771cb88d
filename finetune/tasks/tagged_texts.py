"""Tagged texts: read from CoNLL columns or records, their tags brought to IOB2, split. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from configs.errors import ConfigError, DataError
from finetune.tasks.example_files import ExampleReader, RecordForm, Records, group_of, identity
from finetune.tasks.example_parts import LeftOut, Repeated, limit_parts, read_parts, repeated_texts
from finetune.tasks.tag_config import TagData
from finetune.tasks.tag_records import begins_document, columns_of, spans_of, words_of
from finetune.tasks.tag_schemes import OUTSIDE, Scheme, recognize, to_iob2
from finetune.tasks.unspaced import is_unspaced

CONLL_ENDINGS = (".conll", ".conllu", ".bio", ".iob", ".iob2", ".bioes", ".txt")
_RECORDS = frozenset(("jsonl", "json", "parquet", "arrow"))
_EXPECTED = "JSON lines or Parquet with words and tags, or data.format=conll for columns"


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text as words, each with a tag.

    Attributes:
        id: names it in the predictions.
        words: never empty ones.
        tags: of each word; entities in IOB2.
        gaps: what stands in front of each word.
        own_group: what keeps it on one side of the split with others; None: its text.
        label: the same for all: tags are not shared out evenly.
    """

    id: str
    words: tuple[str, ...]
    tags: tuple[str, ...]
    gaps: tuple[str, ...]
    own_group: str | None = None
    label: str = ""

    @property
    def text(self) -> str:
        """The running text."""
        return "".join(map("".join, zip(self.gaps, self.words)))

    @property
    def group(self) -> str:
        """Texts of one group stay on one side of the split."""
        return self.text if self.own_group is None else self.own_group


@dataclass(frozen=True)
class TaggedParts:
    """What trains, what chooses, what is reported.

    Attributes:
        parts: texts of `train`, `validation` and, if there is such a part, `test`.
        scheme: of the tags as they were read, by part; of entities they are all IOB2 now.
        labels: what the training part has: all tags, or of entities `O` and `B-` and `I-` of every type.
        joiner: what stands between words.
        malformed: records that were left out, by the part that names their files.
        repeated: texts that are known from another part.
    """

    parts: dict[str, list[TaggedText]]
    scheme: dict[str, Scheme]
    labels: list[str]
    joiner: str
    malformed: Mapping[str, LeftOut] = field(default_factory=dict)
    repeated: Sequence[Repeated] = ()

    @property
    def has_entities(self) -> bool:
        """Whether tags are of entities, in IOB2."""
        return self.scheme["train"] != "none"

    def unknown_tags(self) -> Iterator[tuple[str, int, str]]:
        """Each part that has tags which training never saw, with the number of such words and a tag."""
        known = set(self.labels)
        for part, texts in self.parts.items():
            counts = Counter(tag for text in texts for tag in text.tags if tag not in known)
            if counts:
                yield part, counts.total(), min(counts)


def load_tagged(data: TagData, seed: int) -> TaggedParts:
    """Read, convert, split, limit; the same for every process.

    Raises:
        DataError: unreadable or malformed input, a file that trains and is measured, a part without texts, fewer than
            two tags, entities in one part and plain tags in another.
    """
    schemes: dict[str, Scheme] = {}
    joiners: list[str] = []

    def read(records: Records) -> list[TaggedText]:
        texts, schemes[records.part] = _read(records, data)
        if not joiners:  # of the training texts, which are read first
            joiners.append(_joiner(texts, data))
        if data.text_field is not None:
            return texts
        return [replace(text, gaps=("", *[joiners[0]] * (len(text.words) - 1))) for text in texts]

    found, malformed = read_parts(data, seed, ExampleReader(data, _form(data)), read)
    parts = limit_parts(found, data, seed)
    for part, texts in parts.items():
        if not texts:
            raise DataError("has no texts", where=f"data.{part}_texts", expected="more texts, or another data.split")
    for part, scheme in schemes.items():
        if (scheme == "none") != (schemes["train"] == "none") and any(set(e.tags) != {OUTSIDE} for e in parts[part]):
            raise DataError(
                "has plain tags where training has entities, or the other way round",
                where=f"data.{part}_texts",
                expected="the same kind of tags in all parts",
            )
    labels = _labels(parts["train"], schemes["train"])
    return TaggedParts(parts, schemes, labels, joiners[0], malformed, list(repeated_texts(parts)))


def _form(data: TagData) -> RecordForm:
    """What the readers are told of these files."""
    paths = [str(path) for found in (data.train_texts, data.validation_texts, data.test_texts) for path in found or ()]
    by_ending = [path for path in paths if has_ending(path)]
    if data.format == "auto" and by_ending and len(by_ending) < len(paths):
        other = next(path for path in paths if path not in by_ending)
        raise ConfigError(
            f"names {by_ending[0]}, which by its ending has columns, and {other}, which has not",
            where="data",
            expected="files of one form, or data.format=conll where all have columns",
        )
    if data.format == "conll" or by_ending:
        settings = {"format": "text", "text_documents": "paragraph"}
        return RecordForm("text", frozenset(("text",)), _EXPECTED, settings=settings)
    if data.text_field is not None:
        return RecordForm(data.text_field, _RECORDS, _EXPECTED)
    return RecordForm(data.tokens_field, _RECORDS, _EXPECTED, "data.tokens_field")


def has_ending(path: str, endings: Sequence[str] = CONLL_ENDINGS) -> bool:
    """Whether the name of a file, compressed or not, ends so."""
    from data_prep.reading.decompression import COMPRESSIONS

    suffixes = PurePosixPath(path.lower()).suffixes
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in endings


def _read(records: Records, data: TagData) -> tuple[list[TaggedText], Scheme]:
    """The texts of a part's files with their tags in IOB2, and the scheme that they were in."""
    found: list[tuple[TaggedText, str]] = []
    has_columns = records.reader.form.kinds == {"text"}
    document_number = 0
    for document, path in records:
        where = f"{path}, {document.id}"
        gaps: list[str] = []
        try:
            if has_columns:
                document_number += begins_document(document.text)
                columns = columns_of(document.text, data, where)
                if columns is None:
                    continue
                document.metadata = {**document.metadata, "document": f"{path}#{document_number}"}
                words, tags = columns
            elif data.text_field is not None:
                words, tags, gaps = spans_of(document, data, where)
            else:
                words, tags = words_of(document, data, where)
            group = None if data.split_by is None else group_of(document, data.split_by, where)
            name = identity(document, data.id_field)
            found.append((TaggedText(name, tuple(words), tuple(tags), tuple(gaps), group), where))
        except DataError as error:
            records.leave_out(error)
    scheme: Scheme = (
        recognize((text.tags for text, _ in found), records.where) if data.scheme == "auto" else data.scheme
    )
    texts = []
    for text, where in found:
        try:
            texts.append(replace(text, tags=tuple(to_iob2(text.tags, scheme))))
        except ValueError as error:
            expected = (
                f"tags in {scheme.upper()}; data.scheme says another one (iob1 takes any I- for a beginning where one"
                " is needed), data.max_malformed_share leaves such texts out"
            )
            records.leave_out(DataError(str(error), where=where, expected=expected))
    if not texts:
        records.check()
        raise DataError("holds no tagged texts", where=records.where, expected="at least one")
    return texts, scheme


def _joiner(texts: Sequence[TaggedText], data: TagData) -> str:
    if data.join_words != "auto":
        return " " if data.join_words == "space" else ""
    return "" if is_unspaced("".join(text.words) for text in texts) else " "


def _labels(texts: Sequence[TaggedText], scheme: Scheme) -> list[str]:
    tags = sorted({tag for text in texts for tag in text.tags})
    if scheme == "none":
        labels = tags
    else:
        kinds = sorted({tag[2:] for tag in tags if tag != OUTSIDE})
        labels = [OUTSIDE, *(f"{letter}-{kind}" for kind in kinds for letter in "BI")]
    if len(labels) < 2:
        raise DataError(
            f"the training texts have one tag, {labels[0]!r}", where="data.train_texts", expected="at least two"
        )
    return labels
