"""One rank's part of a checkpoint: planned in the main thread; copied, hashed and written in another."""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from data_prep.storage.durable import flush_to_disk, start_writing_back, write_flushed
from pretrain.checkpoint.manifest import Entry, Part, hash_hex
from pretrain.checkpoint.state_shards import BYTES_PER_ELEMENT, StateShard, rectangles, states_of

if TYPE_CHECKING:
    import torch

HEADER_ALIGNMENT = 4096
CHUNK_BYTES = 8 << 20


def part_name(rank: int) -> str:
    """File name of a rank's part, without its ending."""
    return f"rank{rank:05d}"


@dataclass(frozen=True)
class PartPlan:
    """What a part file will hold, known before a byte is copied.

    Attributes:
        file: its name.
        header: its first bytes: length word and safetensors header.
        entries: its shards, hashes still empty.
        shards: the same shards in memory.
        replicas: names of tensors that this rank holds but leaves to others to write.
    """

    file: str
    header: bytes
    entries: list[Entry]
    shards: list[StateShard]
    replicas: list[str]

    @property
    def elements(self) -> int:
        """Elements of all shards in all of their states."""
        return sum(shard.elements * len(shard.states) for shard in self.shards)

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return len(self.header) + self.elements * BYTES_PER_ELEMENT


def plan_part(shards: list[StateShard], rank: int) -> PartPlan:
    """Lay out the shards that this rank owns: state by state, all fp32 weights first.

    Raises:
        ValueError: a shard whose tensors are not flat fp32 of its size.
    """
    owned = [shard for shard in shards if shard.is_owner and shard.elements]
    keys = _unique_names(owned)
    header: dict[str, object] = {}
    offsets: list[dict[str, int]] = [{} for _ in owned]
    end = 0
    for state in states_of(owned):
        for shard, key, offset in zip(owned, keys, offsets, strict=True):
            if state not in shard.tensors:
                continue
            check_tensor(shard, state)
            offset[state] = end
            end += shard.elements * BYTES_PER_ELEMENT
            header[f"{state}/{key}"] = {
                "dtype": "F32",
                "shape": [shard.elements],
                "data_offsets": [offset[state], end],
            }
    encoded = orjson.dumps(header)
    # Data begins on a page, so that whoever maps the file gets aligned tensors.
    encoded += b" " * (-(8 + len(encoded)) % HEADER_ALIGNMENT)
    head = struct.pack("<Q", len(encoded)) + encoded
    entries = [
        Entry(
            shard.shape.name,
            tuple(shard.shape.global_shape),
            rectangles(shard.shape, shard.start, shard.stop),
            {state: len(head) + start for state, start in offset.items()},
            {},
        )
        for shard, offset in zip(owned, offsets, strict=True)
    ]
    replicas = sorted({shard.shape.name for shard in shards} - {shard.shape.name for shard in owned})
    return PartPlan(f"{part_name(rank)}.safetensors", head, entries, owned, replicas)


def check_tensor(shard: StateShard, state: str) -> torch.Tensor:
    """The shard's tensor in one state.

    Raises:
        ValueError: it is not flat, contiguous fp32 with the shard's number of elements.
    """
    import torch

    tensor = shard.tensors[state]
    if tensor.dtype != torch.float32 or tensor.shape != (shard.elements,) or not tensor.is_contiguous():
        raise ValueError(
            f"{shard.shape.name}: {state} is {tensor.dtype} {tuple(tensor.shape)},"
            f" expected contiguous float32 ({shard.elements},)"
        )
    return tensor


def prepare_copy(plan: PartPlan, buffer: torch.Tensor) -> Callable[[], None]:
    """Make ready to copy all states of all shards into host memory, as they are at the time of this call.

    Shards that lie one behind the other, as an optimizer's flat memory has them, are copied as one.

    Args:
        plan: what to copy.
        buffer: float32, flat, at least `plan.elements`; pinned where the shards are on a GPU.

    Returns:
        what copies, in any thread, and returns when all is there. The shards must not change before. On a GPU it
        waits for the work that was enqueued until now, and runs beside what is enqueued later.
    """
    import torch

    sources = [
        [shard.tensors[state].detach() for shard in plan.shards if state in shard.tensors]
        for state in states_of(plan.shards)
    ]
    devices = sorted({tensor.device for tensor in itertools.chain(*sources) if tensor.is_cuda}, key=str)
    ready = [torch.cuda.current_stream(device).record_event() for device in devices]

    def copy() -> None:
        if devices:
            # A thread begins on the first GPU, whatever the rank's is, and would open a context there.
            torch.cuda.set_device(devices[0])
        end, streams = 0, {device: torch.cuda.Stream(device) for device in devices}
        for device, event in zip(devices, ready, strict=True):
            streams[device].wait_event(event)
        for run in itertools.chain.from_iterable(map(adjacent_runs, sources)):
            place = buffer[end : end + run.numel()]
            if run.is_cuda:
                with torch.cuda.stream(streams[run.device]):
                    place.copy_(run, non_blocking=True)
            else:
                # In a thread of ours a copy by torch starts OpenMP threads of its own. They stay, and with more of
                # them than cores those of training sleep at each barrier: small steps then take twice as long.
                np.copyto(place.numpy(), run.numpy())
            end += run.numel()
        for stream in streams.values():
            stream.synchronize()

    return copy


def adjacent_runs(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    """The same elements in the same order, with flat views that follow each other in one memory joined."""
    runs: list[tuple[torch.Tensor, int]] = []
    for tensor in tensors:
        if runs:
            first, elements = runs[-1]
            follows = tensor.data_ptr() == first.data_ptr() + elements * BYTES_PER_ELEMENT
            if follows and tensor.untyped_storage().data_ptr() == first.untyped_storage().data_ptr():
                runs[-1] = (first, elements + tensor.numel())
                continue
        runs.append((tensor, tensor.numel()))
    return [first.as_strided((elements,), (1,)) for first, elements in runs]


@dataclass(frozen=True)
class PartTimes:
    """Where the time of one part went, in seconds, its copy apart."""

    write_s: float
    hash_s: float
    flush_s: float


def write_part(plan: PartPlan, buffer: torch.Tensor, directory: Path) -> PartTimes:
    """Write and hash one part, durably; its manifest comes last and says that it is complete.

    Raises:
        OSError: what the file system says.
    """
    data = buffer.numpy().data.cast("B")[: plan.file_bytes - len(plan.header)]
    clock = [time.perf_counter()]
    with (directory / plan.file).open("wb", buffering=0) as file:
        write_all(file.fileno(), memoryview(plan.header))
        for start in range(0, len(data), CHUNK_BYTES):
            chunk = data[start : start + CHUNK_BYTES]
            write_all(file.fileno(), chunk)
            start_writing_back(file.fileno(), len(plan.header) + start, len(chunk))
        clock.append(time.perf_counter())
        entries = [_hashed(entry, data, len(plan.header)) for entry in plan.entries]
        clock.append(time.perf_counter())
        os.fsync(file.fileno())
    announce_part(plan, entries, directory)
    clock.append(time.perf_counter())
    return PartTimes(*(after - before for before, after in itertools.pairwise(clock)))


def announce_part(plan: PartPlan, entries: list[Entry], directory: Path) -> None:
    """Write the manifest of a part whose file is on the disk: from then on the part is complete.

    Args:
        plan: of the part.
        entries: its shards with their hashes.
        directory: where its file is.

    Raises:
        OSError: what the file system says.
    """
    part = Part(plan.file, plan.file_bytes, len(plan.header), hash_hex(plan.header), entries, plan.replicas)
    manifest = directory / f"{Path(plan.file).stem}.json"
    unannounced = manifest.with_name(manifest.name + ".writing")
    write_flushed(unannounced, part.encode())
    flush_to_disk(directory)
    # The last touch: once the name is there, rank 0 may rename the directory at any moment. It makes the name durable.
    unannounced.replace(manifest)


def write_all(descriptor: int, data: memoryview) -> None:
    """Write everything, however many calls it takes."""
    while len(data):
        data = data[os.write(descriptor, data) :]


def _hashed(entry: Entry, data: memoryview, header_bytes: int) -> Entry:
    size = entry.elements * BYTES_PER_ELEMENT
    starts = {state: offset - header_bytes for state, offset in entry.offsets.items()}
    hashes = {state: hash_hex(data[start : start + size]) for state, start in starts.items()}
    return Entry(entry.name, entry.global_shape, entry.rectangles, entry.offsets, hashes)


def _unique_names(shards: list[StateShard]) -> list[str]:
    """Names for the safetensors header; a second shard of one tensor on the same rank gets a number."""
    seen: dict[str, int] = {}
    names = []
    for shard in shards:
        count = seen[shard.shape.name] = seen.get(shard.shape.name, 0) + 1
        names.append(shard.shape.name if count == 1 else f"{shard.shape.name}#{count}")
    return names
