"""Text <-> ids of an exported model, whichever tokenizer lies in its directory."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer, load_tokenizer
from finetune.huggingface.document_start import DocumentStart, document_start, exported_start
from finetune.huggingface.tokenizer import OWN_FOLDER
from pretrain.models.huggingface.export_record import RECORD_FILE

_REPLACEMENT = "\ufffd"
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class TextCodec(Protocol):
    """What generation and fine-tuning ask of a tokenizer."""

    end_of_document: int | None
    pad: int | None
    unknown: int | None
    classification: int | None
    separator: int | None
    vocab_size: int
    document_start: int | None
    """What pretraining saw before the first word of a document."""
    begin_of_text: int | None
    """What a decoder read in front of each text; None: nothing."""

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens decode to nothing."""
        ...

    def may_change(self, token: int) -> bool:
        """Whether what an id writes at the end of a text may change with the ids after it: a byte, or nothing yet."""
        ...


class OwnCodec:
    """Our SentencePiece tokenizer; without `start`, documents are those that `tokenize` makes."""

    def __init__(self, tokenizer: Tokenizer, start: DocumentStart | None = None) -> None:
        start = start or document_start({}, tokenizer)
        self.document_start = start.token
        self.begin_of_text = start.token if start.is_in_documents else None
        self.tokenizer = tokenizer
        self.end_of_document = tokenizer.role("end_of_document")
        self.pad = tokenizer.role("pad")
        self.unknown = tokenizer.role("unknown")
        self.classification = tokenizer.role("classification")
        self.separator = tokenizer.role("separator")
        self.vocab_size = tokenizer.vocab_size
        self._is_byte = tokenizer.byte_tokens()

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        return self.tokenizer.encode_batch(list(texts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`."""
        return self.tokenizer.decode(ids)

    def may_change(self, token: int) -> bool:
        """See the protocol."""
        return bool(self._is_byte[token]) or self.tokenizer.is_special(token)


class TransformersCodec:
    """A tokenizer that transformers loads; without `start`, its own token begins documents, else what ends them."""

    def __init__(self, tokenizer: Any, start: DocumentStart | None = None) -> None:
        own_start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
        self.document_start: int | None = own_start if start is None else start.token
        plain = list(tokenizer("a", add_special_tokens=False)["input_ids"])
        begins = list(tokenizer("a")["input_ids"])[: len(plain) + 1] == [own_start, *plain]
        self.begin_of_text: int | None = own_start if begins else None
        self.tokenizer = tokenizer
        self.end_of_document: int | None = tokenizer.eos_token_id
        self.pad: int | None = tokenizer.pad_token_id
        self.unknown: int | None = tokenizer.unk_token_id
        self.classification: int | None = tokenizer.cls_token_id
        self.separator: int | None = tokenizer.sep_token_id
        # Not `len(tokenizer)`: some tokenizers leave ids out.
        self.vocab_size = max(tokenizer.get_vocab().values(), default=-1) + 1

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        from pretrain.models.huggingface.transformers_model import quiet_transformers

        with quiet_transformers():  # it warns of texts longer than the context, which are cut later
            # What looks like a special token in a text is text.
            found = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)
        ids: list[list[int]] = found["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def may_change(self, token: int) -> bool:
        """See the protocol."""
        piece = self.tokenizer.convert_ids_to_tokens(token)
        return token in self.tokenizer.all_special_ids or bool(_BYTE.fullmatch(piece or ""))


def decode_after(codec: TextCodec, before: Sequence[int], new: Sequence[int]) -> str:
    """Text of `new` where it follows `before`, which is the whole of a text.

    Not `decode(new)`: many vocabularies write the space before a word into the word, and drop it from a text's first.

    Args:
        codec: what the ids are of.
        before: what comes first; may be empty.
        new: what follows; may end within a character.
    """
    known = codec.decode(before)
    whole = codec.decode([*before, *new])
    # Some decoders turn a row of byte tokens into U+FFFD as a whole if its end is missing, `before`'s part included.
    if whole.startswith(known) and not known.endswith(_REPLACEMENT):
        return whole[len(known) :]
    letter = codec.encode_batch(["a"])[0]
    known, whole = codec.decode(letter), codec.decode([*letter, *new])
    return whole[len(known) :] if whole.startswith(known) else codec.decode(new)


def load_codec(directory: Path) -> TextCodec:
    """The tokenizer of a Hugging Face directory: transformers' if there is one, else our SentencePiece one.

    Raises:
        DataError: there is none.
    """
    start = exported_start(directory)
    if (directory / "tokenizer_config.json").is_file():
        from transformers import AutoTokenizer

        from pretrain.models.huggingface.transformers_model import quiet_transformers

        try:
            with quiet_transformers():
                tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)
                if start is None and (directory / RECORD_FILE).is_file():
                    # An export from before they say it: its own token for it, pretraining may never have seen.
                    start = DocumentStart(tokenizer.eos_token_id, False, False)
                return TransformersCodec(tokenizer, start)
        except (OSError, ValueError) as error:
            problem = str(error).strip().splitlines()[0]
            raise DataError(f"its tokenizer cannot be loaded ({problem})", where=directory) from None
    if (directory / OWN_FOLDER).is_dir():
        return OwnCodec(load_tokenizer(directory / OWN_FOLDER), start)
    raise DataError("holds no tokenizer", where=directory, expected="an export with tokenizer=huggingface")
