"""`tokenize`: documents -> parts, made in parallel -> shards, merged in order -> one committed corpus directory."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from configs.errors import DataError
from data_prep.atomic import check_replaceable, staged_directory, writing
from data_prep.config import TokenizeConfig
from data_prep.encoding import EncodeTask, Part, encode_task, read_part, remove_part
from data_prep.executor import available_cores, open_executor, run_tasks
from data_prep.inputs import find_files, group_units, work_units
from data_prep.manifest import MANIFEST, TOKEN_COUNTS, TOKENIZER, Manifest, ShardEntry, SourceEntry
from data_prep.progress import Progress
from data_prep.shard_writer import ShardWriter
from data_prep.shards import bin_path, idx_path, token_dtype
from data_prep.tokenizer import Tokenizer


@dataclass(frozen=True)
class Tokenized:
    """What `tokenize` made, and how long it took in seconds."""

    manifest: Manifest
    elapsed_s: float
    workers: int


def tokenize(config: TokenizeConfig) -> Tokenized:
    """Make the corpus that `config` describes. The result is the same for any number of workers.

    Raises:
        DataError: for input or a tokenizer that cannot be used, or an output that is in the way.
        MachineError: if the output cannot be written, or a worker dies.
    """
    check_replaceable(config.output, MANIFEST, config.overwrite)
    tokenizer = Tokenizer.load(config.tokenizer)
    end = tokenizer.role("end_of_document")
    if config.append_end_of_document and end is None:
        raise DataError(
            "the tokenizer has no end-of-document token",
            where=config.tokenizer,
            expected="one that has, or append_end_of_document=false",
        )
    files = find_files(config)
    groups = group_units(work_units(files, config), config.work_unit_bytes)
    workers = min(config.workers or available_cores(), len(groups))
    with staged_directory(config.output, MANIFEST, config.overwrite) as directory:
        parts_directory = directory / "parts"
        parts_directory.mkdir()
        tokenizer.copy_to(directory / TOKENIZER)
        tasks = [
            EncodeTask(units, config, directory.absolute() / TOKENIZER, parts_directory / f"{number:06d}")
            for number, units in enumerate(groups)
        ]
        parts, elapsed_s = _encode(tasks, workers)
        if not any(part.documents for part in parts):
            raise DataError("there is no text in any document", where=", ".join(config.input))
        shards = _merge(parts, directory, token_dtype(tokenizer.vocab_size), config.max_shard_bytes)
        parts_directory.rmdir()
        np.save(directory / TOKEN_COUNTS, sum(part.token_counts for part in parts), allow_pickle=False)
        dtype = token_dtype(tokenizer.vocab_size).name
        manifest = Manifest(
            created_by=f"bessemer {program_version()}",
            dtype="uint16" if dtype == "uint16" else "int32",
            vocab_size=tokenizer.vocab_size,
            end_of_document=end if config.append_end_of_document else None,
            tokenizer_fingerprint=tokenizer.fingerprint,
            text_bytes=sum(part.text_bytes for part in parts),
            empty_documents=sum(part.empty for part in parts),
            malformed_records=sum(part.malformed for part in parts),
            shards=shards,
            sources=[SourceEntry(path=str(path), bytes=path.stat().st_size) for path, _ in files],
        )
        manifest.write(directory)
    return Tokenized(manifest, elapsed_s, workers)


def program_version() -> str:
    """Version of this package, `unknown` when it runs without being installed."""
    try:
        return version("bessemer")
    except PackageNotFoundError:
        return "unknown"


def _encode(tasks: list[EncodeTask], workers: int) -> tuple[list[Part], float]:
    sizes = [sum(unit.size_bytes for unit in task.units) for task in tasks]
    parts: dict[int, Part] = {}
    with Progress("tokenize", sum(sizes)) as progress, open_executor(workers, ["data_prep.encoding"]) as executor:
        for number, part in run_tasks(executor, encode_task, tasks, in_flight=2 * workers if workers > 1 else 1):
            parts[number] = part
            progress.advance(sizes[number], part.tokens)
        return [parts[number] for number in range(len(tasks))], progress.elapsed_s


def _merge(parts: list[Part], directory: Path, dtype: np.dtype, max_shard_bytes: int) -> list[ShardEntry]:
    """Join parts into shards, in order; a shard ends at the border of a part. Parts are deleted as they go."""
    shards: list[ShardEntry] = []
    for number, group in enumerate(_shard_groups(parts, dtype.itemsize, max_shard_bytes)):
        prefix = directory / f"shard_{number:05d}"
        with ShardWriter(prefix, dtype) as writer:
            for part in group:
                writer.add_documents(*read_part(part, dtype))
                remove_part(part)
        with writing(prefix):
            sizes = [path(prefix).stat().st_size for path in (bin_path, idx_path)]
        shards.append(
            ShardEntry(
                name=prefix.name,
                documents=writer.num_documents,
                tokens=writer.num_tokens,
                bin_bytes=sizes[0],
                idx_bytes=sizes[1],
                bin_xxh3=writer.bin_xxh3,
                idx_xxh3=writer.idx_xxh3,
            )
        )
    return shards


def _shard_groups(parts: list[Part], token_bytes: int, max_shard_bytes: int) -> list[list[Part]]:
    groups: list[list[Part]] = [[]]
    for part in parts:
        held = sum(p.tokens for p in groups[-1])
        if held and (held + part.tokens) * token_bytes > max_shard_bytes:
            groups.append([])
        groups[-1].append(part)
    return groups


def summarize(result: Tokenized, output: Path) -> list[str]:
    """Lines that say what was made and how fast."""
    manifest = result.manifest
    rate = manifest.text_bytes / 1e6 / max(1e-9, result.elapsed_s)
    lines = [
        f"{manifest.documents:,} documents, {manifest.tokens:,} tokens, "
        f"{manifest.text_bytes / max(1, manifest.tokens):.3f} bytes of text per token",
        f"  corpus     {output}, {len(manifest.shards)} shard{'s' if len(manifest.shards) != 1 else ''} "
        f"of {manifest.dtype}",
        f"  tokenizer  {manifest.tokenizer_fingerprint}, {manifest.vocab_size:,} ids",
        f"  took       {result.elapsed_s:.1f} s on {result.workers} process"
        f"{'es' if result.workers != 1 else ''}, {rate:.1f} MB/s of text",
    ]
    if manifest.empty_documents or manifest.malformed_records:
        lines.append(f"  left out   {manifest.empty_documents:,} empty, {manifest.malformed_records:,} malformed")
    return lines
