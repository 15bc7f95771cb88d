"""What a corpus directory holds: its shards with counts and hashes, its tokenizer, where the text came from."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import orjson
import xxhash
from pydantic import ValidationError

from configs.errors import DataError
from configs.section import Section
from data_prep.corpus.shards import token_dtype
from data_prep.storage.publishing import staged_file

MANIFEST = "manifest.json"
TOKEN_COUNTS = "token_counts.npy"
TOKENIZER = "tokenizer"
FORMAT_VERSION = 1
MAX_LEFT_OUT = 20


class ShardEntry(Section):
    """One shard of a corpus."""

    name: str
    """File name without `.bin` and `.idx`, in the corpus directory."""
    documents: int
    """Number of documents."""
    tokens: int
    """Number of tokens, end-of-document ids included."""
    bin_bytes: int
    """Size of the `.bin` file."""
    idx_bytes: int
    """Size of the `.idx` file."""
    bin_xxh3: str
    """XXH3-128 of the `.bin` file, in hexadecimal."""
    idx_xxh3: str
    """XXH3-128 of the `.idx` file, in hexadecimal."""
    metadata_xxh3: str | None = None
    """XXH3-128 of the `.meta.jsonl` file; null: metadata was not asked for."""


class SourceEntry(Section):
    """One input file that the corpus was made from."""

    path: str
    """As it was given."""
    bytes: int
    """Its size, compressed if it is."""
    documents: int = 0
    """Documents that it gave."""
    tokens: int = 0
    """Their tokens, end-of-document ids included."""
    text_bytes: int = 0
    """UTF-8 bytes of their text."""
    malformed: int = 0
    """Records of it that could not be read, left out."""


class CorpusManifest(Section):
    """The table of contents of a corpus directory; it is written last, so a corpus with one is whole."""

    format_version: int = FORMAT_VERSION
    """Version of this file's format."""
    created_by: str
    """The program and version that wrote the corpus."""
    dtype: Literal["uint16", "int32"]
    """Type of the token ids in the `.bin` files."""
    vocab_size: int
    """Number of ids that the tokenizer has; every id of the corpus is below it."""
    end_of_document: int | None
    """Id that ends each document; null: none was appended."""
    beginning_of_document: int | None = None
    """Id that begins each document; null: none was put there."""
    tokenizer_fingerprint: str
    """Fingerprint of the tokenizer, a copy of which lies in `tokenizer/`."""
    engine: str = "reference"
    """Who made the ids: `reference`, the tokenizer's own library, or `auto`, the fastest that gives the same; `unknown`
    of a bare prefix, and several names where several were merged."""
    sentences: bool = False
    """Whether each sentence is a sequence of the index; else each document is."""
    answers: bool = False
    """Whether the sequences of each document are by turns what is only read and what a model is to say, as of a
    conversation; the first is only read."""
    text_bytes: int
    """UTF-8 bytes of all documents' text."""
    empty_documents: int = 0
    """Documents without text, left out."""
    malformed_records: int = 0
    """Records that could not be read, left out."""
    too_long_records: int = 0
    """Records above `max_document_bytes`, left out."""
    replaced_records: int = 0
    """Records that were read with U+FFFD in place of half a surrogate pair, as programs write that cut text."""
    damaged_files: int = 0
    """Files that break in the middle, or are empty; what could be read of them was."""
    left_out: list[str] = []
    """The first of what was left out, and why."""
    shards: list[ShardEntry]
    """The shards, in order."""
    sources: list[SourceEntry] = []
    """The input files, in order."""

    @property
    def documents(self) -> int:
        """Documents in all shards."""
        return sum(shard.documents for shard in self.shards)

    @property
    def tokens(self) -> int:
        """Tokens in all shards."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def fingerprint(self) -> str:
        """Hash of what a reader sees: tokens, document borders and tokenizer, not where they came from."""
        return xxhash.xxh3_128_hexdigest(orjson.dumps([self._settings(), [_row(shard) for shard in self.shards]]))

    @property
    def beginnings(self) -> tuple[str, ...]:
        """The fingerprints of the corpora of its first shard, of its first two, and so on; its own is the last.

        A corpus that grew by `tokenize append=true` has the fingerprint that it had before among them.
        """
        found = []
        # Hashes the text of `fingerprint`, of which that of fewer shards is a beginning, but for the last brackets.
        digest = xxhash.xxh3_128(b"[" + orjson.dumps(self._settings()) + b",[")
        for number, shard in enumerate(self.shards):
            digest.update(b"," * (number > 0) + orjson.dumps(_row(shard)))
            whole = digest.copy()
            whole.update(b"]]")
            found.append(whole.hexdigest())
        return tuple(found) or (self.fingerprint,)

    def _settings(self) -> list[object]:
        content: list[object] = [self.format_version, self.dtype, self.vocab_size, self.end_of_document]
        content.append(self.tokenizer_fingerprint)
        # Came later: where there is none, the hash is what it was before.
        return content if self.beginning_of_document is None else [*content, self.beginning_of_document]

    def write(self, directory: Path) -> None:
        """Write the manifest of the corpus `directory`, atomically.

        Raises:
            MachineError: if it cannot be written.
        """
        with staged_file(directory / MANIFEST) as temporary:
            temporary.write_bytes(orjson.dumps(self.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n")

    @classmethod
    def read(cls, directory: Path) -> CorpusManifest:
        """The manifest of the corpus `directory`.

        Raises:
            DataError: if it is missing, not JSON, of another version, or lacks something.
        """
        path = directory / MANIFEST
        try:
            raw = orjson.loads(path.read_bytes())
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path) from None
        except orjson.JSONDecodeError as error:
            raise DataError(f"is not JSON: {error}", where=path, expected="the manifest of a corpus") from None
        version = raw.get("format_version") if isinstance(raw, dict) else None
        if version != FORMAT_VERSION:
            raise DataError(
                f"has the corpus format version {version!r}", where=path, expected=f"version {FORMAT_VERSION}"
            )
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            key = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{key}: {first['msg']}", where=path, expected="the manifest of a corpus") from None


def joined_manifest(parts: list[CorpusManifest], shards: list[ShardEntry]) -> CorpusManifest:
    """The manifest of a corpus that holds what `parts`, made by one tokenizer with the same settings, hold in order.

    Args:
        parts: the manifests.
        shards: those of the corpus.
    """
    sums = ("text_bytes", "empty_documents", "malformed_records", "too_long_records", "replaced_records")
    joined: dict[str, Any] = {name: sum(getattr(part, name) for part in parts) for name in (*sums, "damaged_files")}
    joined["left_out"] = [line for part in parts for line in part.left_out][:MAX_LEFT_OUT]
    joined["dtype"] = dtype_name(parts[0].vocab_size)
    joined["engine"] = ", ".join(dict.fromkeys(part.engine for part in parts))
    joined["sources"] = [source for part in parts for source in part.sources]
    return parts[0].model_copy(update={"created_by": program(), "shards": shards, **joined})


def _row(shard: ShardEntry) -> list[object]:
    return [
        shard.name, shard.documents, shard.tokens, shard.bin_bytes, shard.idx_bytes, shard.bin_xxh3, shard.idx_xxh3,
    ]  # fmt: skip


def dtype_name(vocab_size: int) -> Literal["uint16", "int32"]:
    """The type of a corpus' ids."""
    return "uint16" if token_dtype(vocab_size).itemsize == 2 else "int32"


def program() -> str:
    """Name and version of this package; the version is `unknown` when it runs without being installed."""
    try:
        return f"bessemer {version('bessemer')}"
    except PackageNotFoundError:
        return "bessemer unknown"
