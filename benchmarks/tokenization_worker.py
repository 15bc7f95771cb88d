"""One whole tokenization in a process of its own; prints peak memory in MB and the rate in MB of text per second.

    python -m benchmarks.tokenization_worker TEXT TOKENIZER OUTPUT WORKERS UNIT_BYTES

The memory is that of the process, which plans and finishes the work, and the largest of its workers; one worker is the
process itself. The rate counts from the first shard that any worker begins to the last that one ends.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import psutil

from data_prep.config import TokenizeConfig
from data_prep.sharding.tokenization import tokenize


def main() -> None:
    text, tokenizer, output, workers, unit_bytes = sys.argv[1:]
    peaks_kb: dict[int, int] = {}
    ended = threading.Event()
    watch = threading.Thread(target=_watch_children, args=(peaks_kb, ended))
    watch.start()
    result = tokenize(
        TokenizeConfig(
            input=[text], tokenizer=Path(tokenizer), output=Path(output), workers=int(workers),
            work_unit_bytes=int(unit_bytes),
        )
    )  # fmt: skip
    shares = result.workers.values()
    busy_s = max(share.ended_s for share in shares) - min(share.began_s for share in shares)
    rate = sum(share.text_bytes for share in shares) / 1e6 / busy_s
    ended.set()
    watch.join()
    own_kb = _peak_kb(psutil.Process().pid)
    print(own_kb / 1024, max(peaks_kb.values(), default=own_kb) / 1024, rate)


def _watch_children(peaks_kb: dict[int, int], ended: threading.Event) -> None:
    while not ended.wait(0.1):
        for child in psutil.Process().children(recursive=True):
            try:
                peaks_kb[child.pid] = max(peaks_kb.get(child.pid, 0), _peak_kb(child.pid))
            except (OSError, StopIteration):
                continue  # it has just ended


def _peak_kb(pid: int) -> int:
    # Not from getrusage: that counts what the process that started this one had, too.
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
