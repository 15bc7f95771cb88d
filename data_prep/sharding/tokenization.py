"""`tokenize`: documents -> shards, each made and committed by itself -> one corpus.

Shards are units of work of a plan. They are made by processes of this machine, by MPI ranks, or by the tasks of a
Slurm job that share a directory; each is skipped when it is there. So the result is the same to the byte for any of
these, and after any number of kills.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.errors import UserError
from data_prep.config import TokenizeConfig
from data_prep.corpus.manifest import MANIFEST, CorpusManifest
from data_prep.parallel.executor import available_cores, launcher_of, open_executor, run_tasks, slurm_share
from data_prep.parallel.progress import AtWork, Done, WorkProgress
from data_prep.sharding.appending import join_new_files, settings_of_new_files
from data_prep.sharding.encoding import Made, make_shard
from data_prep.sharding.finishing import ShardTally, finish
from data_prep.sharding.planning import Work, begin, discard_if_unused, working
from data_prep.sharding.shard_record import RECORDS, ShardRecord, read_pulse
from data_prep.storage.replaceable import real_output

_PRELOAD = ["data_prep.sharding.encoding"]


@dataclass
class WorkerShare:
    """What one worker did, and from when to when."""

    shards: int = 0
    text_bytes: int = 0
    began_s: float = math.inf
    ended_s: float = -math.inf


@dataclass(frozen=True)
class Tokenized:
    """What `tokenize` made.

    Attributes:
        manifest: of the corpus; None when other processes are still at work on it, or this one only served them.
        elapsed_s: how long making shards took here.
        shards: how many there are in all.
        made: how many of them were made here.
        workers: what each process of this start did.
        served: this was an MPI rank that worked for another.
    """

    manifest: CorpusManifest | None
    elapsed_s: float = 0.0
    shards: int = 0
    made: int = 0
    workers: Mapping[str, WorkerShare] = field(default_factory=dict)
    served: bool = False


def tokenize(config: TokenizeConfig) -> Tokenized:
    """Make the corpus that `config` describes, or what is missing of it, or add new files to it.

    Raises:
        DataError: for input or a tokenizer that cannot be used, or an output that is in the way.
        MachineError: if the output cannot be written, or a worker dies.
    """
    # Beside the place itself lies what is not finished, not beside a link to it.
    config = config.model_copy(update={"output": real_output(config.output)})
    if not config.append:
        return _launch(config)
    own = settings_of_new_files(config)
    if own is None:
        manifest = CorpusManifest.read(config.output)
        return Tokenized(manifest, shards=len(manifest.shards))
    result = _launch(own)
    return replace(result, manifest=join_new_files(config)) if result.manifest is not None else result


def _launch(config: TokenizeConfig) -> Tokenized:
    launcher = launcher_of(config.launcher)
    if launcher == "mpi":
        with open_executor(0, mpi=True) as executor:
            if executor is None:
                return Tokenized(None, served=True)
            return _tokenize(config, launcher, nullcontext(executor))
    return _tokenize(config, launcher, None)


def _tokenize(config: TokenizeConfig, launcher: str, executor: AbstractContextManager | None) -> Tokenized:
    work = begin(config)
    if isinstance(work, CorpusManifest):
        return Tokenized(work, shards=len(work.shards))
    if (work.partial / MANIFEST).exists():
        # An earlier start was killed between the last shard and the corpus' name; records may be gone already.
        return Tokenized(finish(work, config), shards=len(work.tasks))
    number, count = slurm_share(os.environ) if launcher == "slurm" else (0, 1)
    total = len(work.tasks)
    # Every process can make every shard; they begin at different ones, and who is done helps the others.
    order = [at for start in range(count) for at in range((number + start) % count, total, count)]
    workers = min(config.workers or available_cores(), total)
    if executor is None:
        executor = open_executor(workers, _PRELOAD)
        in_flight = 2 * workers if workers > 1 else 1
    else:
        in_flight = 2 * max(1, _mpi_workers())
    tally = ShardTally()
    shares: dict[str, WorkerShare] = {}
    made = 0
    try:
        watch = _Watch(work)
        with (
            working(work) as there,
            WorkProgress("tokenize", sum(work.sizes_bytes), watch) as progress,
            executor as running,
        ):
            assert running is not None, "only an MPI rank that serves another has no executor"
            tasks = [work.tasks[at] for at in order] if there else []
            for _, result in run_tasks(running, make_shard, tasks, in_flight):
                if result.record is not None:
                    tally.add(result.record)
                    tally.check(config, at_end=False)
                made += _note(shares, result)
            elapsed_s = progress.elapsed_s
        return Tokenized(finish(work, config), elapsed_s, total, made, shares)
    except UserError:
        if launcher != "slurm":
            discard_if_unused(work.partial)
        raise


def _note(shares: dict[str, WorkerShare], result: Made) -> int:
    if result.worker is None or result.record is None:
        return 0
    share = shares.setdefault(result.worker, WorkerShare())
    share.shards += 1
    share.text_bytes += result.record.text_bytes
    share.began_s = min(share.began_s, result.began_s)
    share.ended_s = max(share.ended_s, result.ended_s)
    return 1


def _mpi_workers() -> int:
    from mpi4py import MPI

    return int(MPI.COMM_WORLD.Get_size()) - 1


class _Watch:
    """Finds out how far all shards are, whoever makes them."""

    def __init__(self, work: Work) -> None:
        self._directory = work.partial
        self._pending = {task.name: size for task, size in zip(work.tasks, work.sizes_bytes)}
        self._done = Done()
        self._began_s = time.time()

    def __call__(self) -> Done:
        try:
            there = {entry.name for entry in os.scandir(self._directory / RECORDS)}
        except OSError:
            return self._done
        for name in [name for name in self._pending if f"{name}.json" in there]:
            record = ShardRecord.read(self._directory, name)
            if record is not None:
                left_out = record.empty + record.malformed + record.too_long
                self._done = _add(self._done, self._pending.pop(name), record.tokens, left_out)
        now, at_work = self._done, []
        for name, size in self._pending.items():
            beat = read_pulse(self._directory, name) if f"{name}.pulse" in there else None
            if beat is not None:
                now = _add(now, min(size, beat.text_bytes), beat.tokens, beat.left_out)
                # An older beat is of a process of an earlier start.
                if beat.told_s >= self._began_s:
                    silent_s = time.time() - beat.told_s
                    at_work.append(AtWork(beat.worker, name, beat.bytes_per_s, beat.left_out, silent_s))
        return replace(now, workers=tuple(at_work))


def _add(done: Done, input_bytes: int, tokens: int, left_out: int) -> Done:
    return Done(done.input_bytes + input_bytes, done.tokens + tokens, done.left_out + left_out)


def summarize_tokenization(result: Tokenized, output: Path) -> list[str]:
    """Lines that say what was made and how fast."""
    manifest = result.manifest
    if manifest is None:
        return [
            f"{result.made:,} of {result.shards:,} shards made here; other processes are at work on the rest",
            f"  corpus     {output} appears when the last of them ends; if they were stopped, run this command again",
        ]
    lines = [
        f"{manifest.documents:,} documents, {manifest.tokens:,} tokens, "
        f"{manifest.text_bytes / max(1, manifest.tokens):.3f} bytes of text per token",
        f"  corpus     {output}, {len(manifest.shards)} shard{'s' if len(manifest.shards) != 1 else ''} "
        f"of {manifest.dtype}",
        f"  tokenizer  {manifest.tokenizer_fingerprint}, {manifest.vocab_size:,} ids",
    ]
    if result.made:
        text_bytes = sum(share.text_bytes for share in result.workers.values())
        rate = text_bytes / 1e6 / max(1e-9, result.elapsed_s)
        lines.append(
            f"  took       {result.elapsed_s:.1f} s for {result.made:,} of {result.shards:,} shards, "
            f"{rate:.1f} MB/s of text"
        )
        if len(result.workers) > 1:
            for name, share in sorted(result.workers.items())[:16]:
                speed = share.text_bytes / 1e6 / max(1e-9, share.ended_s - share.began_s)
                lines.append(f"  worker     {name}: {share.shards:,} shards, {speed:.1f} MB/s")
    else:
        lines.append("  took       nothing: the corpus is complete")
    left_out = {
        "empty": manifest.empty_documents,
        "malformed": manifest.malformed_records,
        "too long": manifest.too_long_records,
        "damaged files": manifest.damaged_files,
    }
    if any(left_out.values()):
        lines.append("  left out   " + ", ".join(f"{count:,} {name}" for name, count in left_out.items() if count))
        lines += [f"             - {line}" for line in manifest.left_out[:5]]
    if manifest.replaced_records:
        lines.append(f"  replaced   half a surrogate pair by U+FFFD in {manifest.replaced_records:,} records")
    return lines
