"""One whole tokenization in a process of its own; prints its peak memory in MB and its rate in MB of text per second.

    python -m benchmarks.tokenization_worker TEXT TOKENIZER OUTPUT WORKERS UNIT_BYTES

The rate counts from the first shard that any worker begins to the last that one ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from data_prep.config import TokenizeConfig
from data_prep.sharding.tokenization import tokenize


def main() -> None:
    text, tokenizer, output, workers, unit_bytes = sys.argv[1:]
    result = tokenize(
        TokenizeConfig(
            input=[text], tokenizer=Path(tokenizer), output=Path(output), workers=int(workers),
            work_unit_bytes=int(unit_bytes),
        )
    )  # fmt: skip
    shares = result.workers.values()
    busy_s = max(share.ended_s for share in shares) - min(share.began_s for share in shares)
    rate = sum(share.text_bytes for share in shares) / 1e6 / busy_s
    # Not from getrusage: that counts what the process that started this one had, too.
    status = Path("/proc/self/status").read_text()
    peak_kb = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    print(peak_kb / 1024, rate)


if __name__ == "__main__":
    main()
