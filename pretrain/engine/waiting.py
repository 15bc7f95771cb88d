"""Says which ranks have not come, while this one waits for them in a collective.

A collective knows nothing of the peers that it waits for. So every rank writes into the store, now and then, where its
main thread is; a rank that stays in one exchange reads what the others wrote. Reading a stack stops nobody.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import torch.distributed as dist

from pretrain.engine.meeting import in_words, may_speak, say
from pretrain.parallel.launch import Launch

LOOKS_PER_REPORT = 4
_ROOT = Path(__file__).resolve().parents[2]
_OURS = tuple(f"{_ROOT / room}{os.sep}" for room in ("pretrain", "finetune", "data_prep"))
_EXCHANGES = tuple(f"{Path(package)}{os.sep}" for package in ("torch/distributed", "deepspeed/comm"))
# A thread that waits all the time uses no more of it; one that goes from collective to collective does.
_BUSY_SHARE = 0.2
_END_WAIT_S = 1.0


@dataclass(frozen=True)
class Stand:
    """Where a rank is.

    Attributes:
        beat: counts up as long as the process lives.
        waits: whether it is in an exchange with other ranks.
        speaks: whether it is one of those that tell what they see.
        place: the innermost line of this repository that it is in.
    """

    beat: int
    waits: bool
    speaks: bool
    place: str


def describe(stands: Mapping[int, Stand | None], silent_s: float) -> str:
    """For whom the ranks wait, in words.

    Args:
        stands: of each rank; None where it has given no sign of life for `silent_s`.
        silent_s: how long that is.
    """
    absent: dict[str, list[int]] = {}
    waiting: dict[str, list[int]] = {}
    for rank, stand in stands.items():
        if stand is None:
            absent.setdefault(f"no sign of life for {silent_s:.0f} s", []).append(rank)
        else:
            (waiting if stand.waits else absent).setdefault(f"at {stand.place}", []).append(rank)

    def listed(groups: Mapping[str, list[int]]) -> str:
        return "; ".join(f"{in_words(ranks)} ({where})" for where, ranks in groups.items())

    if absent:
        return f"ranks that have not come: {listed(absent)}"
    if len(waiting) == 1:
        return "all ranks have come, the exchange itself takes long"
    return f"all ranks wait, in different exchanges: {listed(waiting)}"


class WaitReport:
    """Watches the main thread of this rank, from a thread of its own.

    Args:
        store: of the ranks.
        launch: this process among them.
        on_device: whether collectives run on a device, for which the main thread waits anywhere in the engine.
        report_after_s: how long an exchange may take; then, and each time that doubles, it is told who is missing.
    """

    def __init__(self, store: dist.Store, launch: Launch, *, on_device: bool, report_after_s: float) -> None:
        self._store: dist.Store = store.clone()  # type: ignore[attr-defined]
        self._launch, self._on_device = launch, on_device
        self._after_s, self._period_s = report_after_s, report_after_s / LOOKS_PER_REPORT
        self._main = threading.main_thread().ident or 0
        self._marks = self._beat = 0
        self._signature: object = None
        self._cpu_s = 0.0
        self._same_since_s = self._answered_s = time.monotonic()
        self._stand = Stand(0, False, False, "its start")
        self._seen: dict[int, tuple[Stand, float]] = {}
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=name, daemon=True)
            for work, name in ((self._watch, "waiting"), (self._exchange, "waiting-store"))
        ]
        for thread in self._threads:
            thread.start()

    def mark(self) -> None:
        """Say that the main thread goes on, though it may come by the same place again."""
        self._marks += 1

    def stop(self) -> None:
        """End the threads; one that waits for a store that does not answer is left."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(_END_WAIT_S)

    def _watch(self) -> None:
        next_report_s = self._after_s
        while not self._stopped.wait(self._period_s):
            self._look()
            now_s = time.monotonic()
            same_s = now_s - self._same_since_s
            if same_s < self._after_s or not self._stand.waits:
                if next_report_s > self._after_s:
                    say(f"rank {self._launch.rank} waits no longer")
                next_report_s = self._after_s
            elif same_s >= next_report_s and (told := self._told(now_s)):
                say(f"rank {self._launch.rank} has waited {same_s:.0f} s at {self._stand.place}; {told}")
                next_report_s = 2 * same_s

    def _told(self, now_s: float) -> str | None:
        """What to say; None where another rank says it."""
        silent_s = 3 * self._period_s
        if not self._stand.speaks:
            return None
        if now_s - self._answered_s > silent_s:
            return "rank 0, which keeps the list, does not answer"
        stands = dict.fromkeys(range(self._launch.world_size)) | {
            rank: stand if now_s - seen_s <= silent_s else None for rank, (stand, seen_s) in dict(self._seen).items()
        }
        stands[self._launch.rank] = self._stand
        if self._on_device and all(stand is not None and stand.waits for stand in stands.values()):
            # A long step looks the same as a wait that does not end; the watchdog tells of those.
            return None
        # One of them is enough.
        first = min(rank for rank, stand in stands.items() if stand is not None and stand.waits and stand.speaks)
        return describe(stands, silent_s) if first == self._launch.rank else None

    def _look(self) -> None:
        """Where the main thread is, and since when."""
        frame = sys._current_frames().get(self._main)
        place, innermost, waits, lines = None, None, False, []
        while frame is not None:
            file, line = frame.f_code.co_filename, frame.f_lineno
            lines.append((frame.f_code, frame.f_lasti))
            if innermost is None and "site-packages" not in file:
                innermost = f"{Path(file).name}:{line}"
            waits = waits or any(part in file for part in _EXCHANGES)
            if place is None and file.startswith(_OURS):
                place = f"{Path(file).relative_to(_ROOT)}:{line}"
                waits = waits or (self._on_device and place.startswith("pretrain/engine/"))
            frame = frame.f_back
        cpu_s, before_s = _cpu_s(self._main), self._cpu_s
        is_busy = not self._on_device and cpu_s - before_s > _BUSY_SHARE * self._period_s
        signature = (self._marks, lines)
        if is_busy or signature != self._signature:
            self._same_since_s = time.monotonic()
        self._signature, self._cpu_s = signature, cpu_s
        self._beat += 1
        self._stand = Stand(self._beat, waits, may_speak(self._launch), place or innermost or "its end")

    def _exchange(self) -> None:
        keys = [f"bessemer/stands/{rank}" for rank in range(self._launch.world_size)]
        try:
            while not self._stopped.wait(self._period_s):
                own = self._stand
                self._store.set(keys[self._launch.rank], json.dumps(astuple(own)))
                if own.waits and own.speaks:
                    self._read(keys)
                self._answered_s = time.monotonic()
        except dist.DistError:
            return  # the run is over on the rank that keeps the store, or soon will be

    def _read(self, keys: list[str]) -> None:
        there = [rank for rank, key in enumerate(keys) if self._store.check([key])]
        for rank, text in zip(there, self._store.multi_get([keys[rank] for rank in there])):
            stand = Stand(*json.loads(text))
            if rank not in self._seen or self._seen[rank][0].beat != stand.beat:
                self._seen[rank] = stand, time.monotonic()


def _cpu_s(thread: int) -> float:
    """Processor time of a thread, in seconds; 0 where the system does not tell."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return 0.0
    return time.clock_gettime(time.pthread_getcpuclockid(thread))
