"""Files of conversations -> corpora of training and validation, made once for what they depend on.

`<output>/conversations/<hash>/` holds `train`, `validation` and `prepared.json`; the hash is of the files' content, the
tokenizer, the template and the settings. One process makes it, the others wait.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson
import xxhash

from configs.errors import DataError
from data_prep.storage.publishing import staged_directory
from data_prep.tokenizer import Tokenizer
from finetune.chat.chat_corpus import ChatCorpusWriter
from finetune.chat.config import InstructRunConfig
from finetune.chat.encoding import ConversationEncoder, EncodedConversation
from finetune.chat.formats import BadConversation
from finetune.chat.prepared import PARTS, PartCounts, Prepared
from finetune.chat.reading import BadRecords, ChatFiles, find_chat_files, read_conversations
from finetune.chat.template import ChatTemplate
from finetune.chat.vocabulary import chat_tokenizer, with_special_tokens
from pretrain.data.build_lock import built_once

MARKER = "prepared.json"
_VERSION = 1
_HASH_CHUNK_BYTES = 16 << 20
_KEPT_EXAMPLES = 4


@dataclass
class _Part:
    name: str
    writer: ChatCorpusWriter
    counts: PartCounts = field(default_factory=PartCounts)
    hashes: set[int] = field(default_factory=set)


def prepare(
    config: InstructRunConfig,
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_tokens: int,
    log: Callable[[str], None],
) -> Prepared:
    """The corpora of a run, made if they are not there yet.

    Args:
        config: the run.
        tokenizer: of the model.
        template: the chat template.
        max_tokens: of a conversation.
        log: prints a line.

    Raises:
        DataError: files that cannot be read, too many bad records, a template that does not append, or no answers.
        MachineError: it cannot be written.
    """
    files = {"train": find_chat_files(config.data.train, config.data)}
    if config.data.validation is not None:
        files["validation"] = find_chat_files(config.data.validation, config.data)
    identity = _identity(config, files, tokenizer, template, max_tokens)
    directory = config.output / "conversations" / xxhash.xxh3_64_hexdigest(orjson.dumps(identity))
    directory.parent.mkdir(parents=True, exist_ok=True)
    marker = directory / MARKER
    with built_once(directory.with_suffix(".lock"), marker.is_file, str(directory)) as is_mine:
        if is_mine:
            log(f"preparing conversations of {', '.join(file.path for file in files['train'].files)}")
            with staged_directory(directory, MARKER, overwrite=False) as folder:
                record = _write(config, files, tokenizer, template, max_tokens, folder)
                (folder / MARKER).write_text(
                    json.dumps(record | {"identity": identity}, indent=2, ensure_ascii=False) + "\n", "utf-8"
                )
    return Prepared(directory, json.loads(marker.read_text("utf-8")))


def _identity(
    config: InstructRunConfig,
    files: dict[str, ChatFiles],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_tokens: int,
) -> dict[str, Any]:
    """All that the corpora depend on."""
    data = config.data.model_dump(mode="json", exclude={"train", "validation"})
    chat = config.chat.model_dump(mode="json", exclude={"template"})
    content = {part: [found.format, *map(_file_hash, (f.path for f in found.files))] for part, found in files.items()}
    return {
        "version": _VERSION,
        "files": content,
        "data": data,
        "chat": chat,
        "template": template.text,
        "special_tokens": list(template.special_tokens),
        "tokenizer": tokenizer.fingerprint,
        "max_tokens": max_tokens,
    }


def _file_hash(path: str) -> str:
    from data_prep.reading.files import file_state, is_url

    if is_url(path) or not Path(path).is_file():
        return f"{path} {asdict(file_state(path))}"  # far away, or within an archive
    digest = xxhash.xxh3_128()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _write(
    config: InstructRunConfig,
    files: dict[str, ChatFiles],
    tokenizer: Tokenizer,
    template: ChatTemplate,
    max_tokens: int,
    folder: Path,
) -> dict[str, Any]:
    """Write the parts below `folder`; returns the record."""
    chat, data = config.chat, config.data
    bad, end_ids = BadRecords(data.max_bad_share), set[int]()
    examples: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, ExitStack() as opened:
        grown, added = with_special_tokens(tokenizer, template.special_tokens, Path(name) / "tokenizer")
        encoder = ConversationEncoder(
            chat_tokenizer(grown, template, max_tokens), template, chat.loss_on, last_only=chat.turns == "last"
        )
        parts = {part: _Part(part, opened.enter_context(ChatCorpusWriter(folder / part, grown))) for part in PARTS}
        for source, found in files.items():
            for number, conversation in enumerate(read_conversations(found, data, bad)):
                if source == "train" and number == data.max_conversations:
                    break
                try:
                    encoded = encoder.encode(conversation)
                except BadConversation as problem:
                    bad.add(conversation.id, str(problem))
                    continue
                part = parts[source if "validation" in files else _part_of(encoded, data.validation_share)]
                is_first = part.name == "train" and len(examples) < _KEPT_EXAMPLES
                if _add(encoded, part, parts["train"], max_tokens, chat.too_long, conversation.id):
                    end_ids |= encoded.end_ids
                    if is_first and len(encoded.ids) <= max_tokens:
                        document = part.counts.conversations - 1
                        shown = {"messages": conversation.messages, "tools": conversation.tools}
                        examples.append({"document": document, **shown})
        where = ", ".join(data.train)
        bad.check(where)
        counts = {part.name: part.counts for part in parts.values()}
        _check_begins(template, grown, set().union(*(part.writer.first_ids for part in parts.values())))
        if not counts["train"].conversations:
            raise _no_answers(counts["train"], config, where)
    return {
        "counts": {name: asdict(found) for name, found in counts.items()},
        "bad_records": bad.count,
        "first_bad": bad.first[0] if bad.first else None,
        "formats": {part: found.format for part, found in files.items()},
        "template_from": template.name,
        "added_tokens": added,
        "stop": sorted(end_ids),
        "examples": examples,
    }


def _part_of(encoded: EncodedConversation, share: float) -> str:
    """Equal conversations are on one side."""
    return PARTS[xxhash.xxh3_64_intdigest(encoded.text.encode(), seed=1) / 2.0**64 < share]


def _add(
    encoded: EncodedConversation, part: _Part, train: _Part, max_tokens: int, too_long: str, identity: str
) -> bool:
    """Write a conversation, or count why not; whether it was written."""
    counts = part.counts
    if (length := len(encoded.ids)) > max_tokens:
        if too_long == "refuse":
            raise DataError(
                f"has {length:,} tokens, and a sample has room for {max_tokens:,}",
                where=identity,
                expected="chat.too_long=truncate or drop, or a longer seq_length",
            )
        if too_long == "drop":
            counts.too_long += 1
            return False
        encoded = replace(encoded, ids=encoded.ids[:max_tokens], answers=encoded.answers[:max_tokens])
    if not encoded.answers.any():
        counts.without_answers += 1
        return False
    counts.truncated += length > max_tokens
    fingerprint = xxhash.xxh3_64_intdigest(encoded.text.encode())
    if part is train:
        part.hashes.add(fingerprint)
    else:
        counts.repeated += fingerprint in train.hashes
    part.writer.add(encoded)
    counts.conversations += 1
    counts.tokens += len(encoded.ids)
    counts.answer_tokens += int(encoded.answers.sum())
    counts.straddling += encoded.straddling
    return True


def _check_begins(template: ChatTemplate, tokenizer: Tokenizer, first_ids: set[int]) -> None:
    """Refuse what the saved model could not know: a token that begins documents, and not all conversations."""
    begin = tokenizer.role("beginning_of_document")
    if template.begins_with_token and begin is not None and first_ids - {begin}:
        raise DataError(
            f"names bos_token, and does not begin each conversation with it ({tokenizer.piece(begin)!r})",
            where=f"chat.template ({template.name})",
            expected="a template that writes bos_token first, or spells the token out",
        )


def _no_answers(counts: PartCounts, config: InstructRunConfig, where: str) -> DataError:
    asked = ", ".join(config.chat.loss_on)
    if counts.without_answers:
        problem = f"all labels are masked: none of {counts.without_answers:,} conversations has a message of {asked}"
        return DataError(
            problem + (" that is not cut off" if counts.truncated or config.chat.too_long == "truncate" else ""),
            where=where,
            expected="conversations with such messages, another chat.loss_on, or a longer seq_length",
        )
    return DataError(
        f"holds no conversation to train on ({counts.too_long:,} are too long)",
        where=where,
        expected="conversations that fit into seq_length tokens, or chat.too_long=truncate",
    )
