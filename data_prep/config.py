"""The settings of data preparation: one frozen class per command."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from configs.paths import InputPath, OutputPath, expanded
from configs.section import Section
from data_prep.reading.encodings import canonical_encoding
from data_prep.reading.work_unit import Format


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


def _pattern(text: str) -> str:
    return f"@{expanded(text[1:])}" if text.startswith("@") else expanded(text)


Names = Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)]
InputPattern = Annotated[str, AfterValidator(_pattern)]
Paths = Annotated[list[InputPattern], BeforeValidator(_as_list), Field(min_length=1)]


class SampleCorpusConfig(Section):
    """`sample-corpus`: the documentation found in this Python installation, as a text corpus."""

    output: OutputPath
    """The `.jsonl` file to write, one document per line."""
    min_bytes: int | None = Field(None, ge=0)
    """UTF-8 bytes of text below which the installation is found too small; null: 5,000,000, or `max_bytes` if less."""
    max_bytes: int | None = Field(None, ge=1)
    """UTF-8 bytes of text after which no more is collected; null: 8,000,000, or `min_bytes` if more."""
    min_document_bytes: int = Field(48, ge=1)
    """Shorter documentation texts, in UTF-8 bytes, are left out."""
    overwrite: bool = False
    """Replace the output if it exists."""

    @model_validator(mode="after")
    def _ordered(self) -> SampleCorpusConfig:
        least, most = self.text_bytes()
        if least > most:
            raise ValueError(f"min_bytes = {least} is above max_bytes = {most}")
        return self

    def text_bytes(self) -> tuple[int, int]:
        """The least and the most UTF-8 bytes of text; a bound that is not given keeps to the other."""
        most = max(8_000_000, self.min_bytes or 0) if self.max_bytes is None else self.max_bytes
        return min(5_000_000, most) if self.min_bytes is None else self.min_bytes, most


class ReadingSettings(Section):
    """What files of documents are, wherever such are read."""

    input: Paths
    """Files, directories, glob patterns, URLs, `@LIST` for a file with one of these per line, `-` for standard input.
    Files in tar and zip archives are read like others."""
    format: Format | Literal["auto"] = "auto"
    """What the files hold; auto: what their endings tell or, of those without one, their first bytes."""
    text_field: Names = ["text"]
    """Field or column of a record that holds its text; several are joined."""
    text_separator: str = "\n\n"
    """What several text fields are joined with."""
    text_documents: Literal["file", "line", "paragraph"] = "file"
    """What one document is in a .txt file: all of it, a line, or lines up to an empty one. Line breaks of Windows are
    read as line feeds, and in whole files other carriage returns too."""
    encoding: Annotated[str, AfterValidator(canonical_encoding)] = "utf-8"
    """Encoding of text, JSON and CSV files, as Python names it, such as `gb18030`, `big5`, `cp932` or `utf-16`; a file
    in another one than UTF-8 is read by one worker."""
    delimiter: Annotated[str | None, BeforeValidator(lambda value: "\t" if value in ("tab", "\\t") else value)] = Field(
        None, pattern=r'^[^"\r\n]$', examples=["|"]
    )
    """Character between two fields of a table, `tab` for a tab; null: a comma in .csv, a tab in .tsv files."""
    quoting: Literal["double", "none"] | None = None
    """Whether double quotes may enclose a field of a table, and line breaks in it; null: `double` in .csv files and in
    .tsv files whose first line has all fields in quotes, else `none`."""
    header: list[str] = []
    """Names of the columns of tables without a first row that names them; empty: the first row does."""
    max_window_bytes: int = Field(2**31, ge=2**10, le=2**31)
    """Largest window of a Zstandard file that is read; a worker takes as much memory (`zstd --long=31` makes 2 GiB)."""
    dataset_split: str = "train"
    """Split that is read of a saved Hugging Face dataset that has several."""


class SourceConfig(ReadingSettings):
    """Which documents are read."""

    malformed: Literal["skip", "stop"] = "skip"
    """What a record that cannot be read does: it is left out and counted, or ends the work with an error."""
    max_malformed_share: float = Field(0.01, ge=0, le=1)
    """Share of records left out above which the input is refused."""
    damaged_files: Literal["skip", "stop"] = "stop"
    """What a file does that breaks in the middle: what can be read is taken, or the work ends."""
    max_document_bytes: int = Field(16 * 2**20, ge=1)
    """Bytes above which a record or text is left out and counted: it would not fit the memory of a worker."""
    work_unit_bytes: int | None = Field(None, ge=1)
    """Bytes of input per unit of work, cut at record borders; null: a 64th of the input, from 4 MiB to 256 MiB."""
    _own: tuple[Path, ...] = ()

    def own_paths(self) -> tuple[Path, ...]:
        """What the command writes, or reads as something else: no input, also where it lies in a directory of it."""
        return self._own


MAY_SHARE = {"classification": "beginning_of_document", "separator": "end_of_document"}
"""Roles of encoders that may share the token of another, as RoBERTa's <s> and </s> do."""
OBJECTIVE_ROLES = (
    *("regular_denoising", "sequential_denoising", "extreme_denoising"),
    *("fim_prefix", "fim_suffix", "fim_middle"),
)
"""Roles that single objectives ask for."""


class SpecialTokens(Section):
    """How the vocabulary writes the special tokens of each role; null: no such token.

    They are never found in text: a document that contains their spelling is encoded letter by letter.
    """

    unknown: str = "<unk>"
    """Stands for what the vocabulary cannot write; unused with byte fallback."""
    beginning_of_document: str | None = "<s>"
    """Begins a document or prompt, for models that want it."""
    end_of_document: str = "</s>"
    """Ends a document."""
    pad: str | None = "<pad>"
    """Fills batches."""
    mask: str | None = None
    """Stands for a token that a masked model has to guess."""
    classification: str | None = None
    """Begins each sequence of an encoder, such as `[CLS]`; may be the token of beginning_of_document."""
    separator: str | None = None
    """Ends each part of an encoder's sequence, such as `[SEP]`; may be the token of end_of_document."""
    regular_denoising: str | None = None
    """Begins the inputs of UL2's regular denoising, such as `[NLU]`."""
    sequential_denoising: str | None = None
    """Begins the inputs of UL2's sequential denoising, such as `[S2S]`."""
    extreme_denoising: str | None = None
    """Begins the inputs of UL2's extreme denoising, such as `[NLG]`."""
    fim_prefix: str | None = None
    """Begins the part before a middle that is to be filled in, such as `<fim_prefix>`."""
    fim_suffix: str | None = None
    """Begins the part after it, such as `<fim_suffix>`."""
    fim_middle: str | None = None
    """Begins the middle, after the other two, such as `<fim_middle>`."""
    sentinels: int = Field(default=0, ge=0)
    """How many sentinels, `<extra_id_0>` and on, stand for masked spans."""

    @model_validator(mode="after")
    def _distinct(self) -> SpecialTokens:
        names = list(self.own_tokens().values())
        for name in names:
            # U+2581 is how SentencePiece writes a space: it would be taken from all text.
            if not name.isprintable() or set(name) & set(" \u2581") or not name:
                raise ValueError(f"{name!r} cannot spell a special token; expected visible characters, such as '<pad>'")
        names += [f"<extra_id_{number}>" for number in range(self.sentinels)]
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise ValueError(f"{sorted(repeated)[0]!r} is used for two roles; each needs its own spelling")
        return self

    def own_tokens(self) -> dict[str, str]:
        """Spelling by role, in the order of the ids; roles that share another's token, and sentinels, left out."""
        first = ("unknown", "beginning_of_document", "end_of_document", "pad", "mask")
        ordered = (*first, *MAY_SHARE, *OBJECTIVE_ROLES)
        spelled = {role: getattr(self, role) for role in ordered}
        shared = [role for role, other in MAY_SHARE.items() if spelled[role] == spelled[other]]
        return {role: name for role, name in spelled.items() if name is not None and role not in shared}


class TokenizerConfig(SourceConfig):
    """`train-tokenizer`: learn a SentencePiece vocabulary from a sample of the documents."""

    output: OutputPath
    """The tokenizer directory to write."""
    algorithm: Literal["bpe", "unigram", "char", "word"] = "bpe"
    """How pieces are chosen: merges, a unigram language model, single characters, or whole words."""
    vocab_size: int = Field(8192, ge=8)
    """Number of ids, special and byte ones included; for char and word the most that there may be."""
    byte_fallback: bool = True
    """Write what the vocabulary lacks as UTF-8 bytes (256 ids), so that any text survives; false: as unknown."""
    character_coverage: float = Field(0.9995, gt=0, le=1)
    """Share of all characters in the sample that get an id of their own."""
    split_digits: bool = True
    """Every digit is a piece of its own."""
    max_piece_chars: int = Field(16, ge=1, le=512)
    """Longest piece, in characters."""
    special_tokens: SpecialTokens = SpecialTokens()
    """Spelling of the special tokens by role."""
    sample_bytes: int = Field(50_000_000, ge=1)
    """UTF-8 bytes of text that are learned from, drawn uniformly over all documents; they are held in memory."""
    sample_share: float = Field(1.0, gt=0, le=1)
    """Share of the work units that are read at all; below 1, a huge input is not read to its end for its sample."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Decides which documents are drawn."""
    overwrite: bool = False
    """Replace the output if it exists."""

    def own_paths(self) -> tuple[Path, ...]:
        """The tokenizer."""
        return self.output, *self._own


class TokenizeConfig(SourceConfig):
    """`tokenize`: documents -> a corpus directory of memory-mapped shards."""

    tokenizer: InputPath
    """Tokenizer: a directory, or a vocabulary file of one of the known kinds."""
    output: OutputPath
    """The corpus directory to write; what is not finished yet lies beside it in `OUTPUT.partial`."""
    engine: Literal["auto", "reference"] = "auto"
    """Who makes ids: `auto`, the fastest way whose ids are shown to be those of the tokenizer's own library;
    `reference`, that library alone."""
    prepend_beginning_of_document: bool = False
    """Put the beginning-of-document id before each document."""
    append_end_of_document: bool = True
    """Put the end-of-document id after each document."""
    sentences: bool = False
    """Keep sentence borders: each sentence is a sequence of the shard's index, as Megatron does for BERT."""
    metadata_fields: list[str] = []
    """Fields of the records to keep beside the shards, with an `id`, one JSON line per document."""
    launcher: Literal["auto", "processes", "mpi", "slurm"] = "auto"
    """Who runs the work: processes of this machine, MPI ranks, or this task's share of a Slurm job; auto: whatever it
    was started under."""
    workers: int | None = Field(None, ge=1)
    """Number of processes on this machine; null: one for each processor core. The result is the same for any number."""
    append: bool = False
    """Add those input files that are not in it yet to the finished corpus `output`, as further shards."""
    overwrite: bool = False
    """Replace the output if it exists, and begin anew what is not finished; with `append`, the latter alone."""

    @model_validator(mode="after")
    def _one_beginning(self) -> TokenizeConfig:
        if self.prepend_beginning_of_document and self.sentences:
            raise ValueError("prepend_beginning_of_document is for documents, not for corpora of sentences=true")
        return self

    @field_validator("engine", mode="before")
    @classmethod
    def _no_longer(cls, engine: object) -> object:
        if engine != "kitoken":
            return engine
        print("engine=kitoken is engine=auto now: kitoken is not used any more", file=sys.stderr, flush=True)
        return "auto"

    @property
    def partial(self) -> Path:
        """Where the corpus lies while it is made."""
        return self.output.with_name(self.output.name + ".partial")

    @property
    def appending(self) -> Path:
        """Where the corpus of the new files lies until it is joined with the one that they are appended to."""
        return self.output.with_name(self.output.name + ".appending")

    def own_paths(self) -> tuple[Path, ...]:
        """The tokenizer, and the corpus while it is made and afterwards."""
        own = (self.tokenizer, self.output, self.partial, *self._own)
        return (*own, self.appending, self.appending.with_name(f"{self.appending.name}.partial"))
