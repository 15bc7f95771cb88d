"""Stands in for a training run in the tests of the cluster room: meets over gloo, counts steps, saves when asked to.

    stand_in.py folder=DIR [steps=N] [step_s=S] [fail_rank=R fail_status=S] [hang=yes] [meet=no]

Each rank writes `DIR/rank<R>.start<K>.json` (what it saw); rank 0 keeps `DIR/state.json` (the step) and continues from
it. With `fail_rank`, that rank ends with `fail_status` in step 1 and all others stay in a collective with it, as in
training; with `hang=yes` they stay in a sleep that no closed connection ends. `meet=no` leaves torch out: quick.
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "MASTER_ADDR", "MASTER_PORT")


def meet(rank: int) -> Callable[[int], int]:
    import torch
    import torch.distributed as dist

    dist.init_process_group("gloo", rank=rank, world_size=int(os.environ["WORLD_SIZE"]))

    def total_of(value: int) -> int:
        total = torch.tensor([value])
        dist.all_reduce(total)
        return int(total.item())

    return total_of


def main() -> int:
    given = dict(a.split("=", 1) for a in sys.argv[1:] if "=" in a)
    folder, steps = Path(given["folder"]), int(given.get("steps", "3"))
    received: list[int] = []
    for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda n, frame: received.append(n))
    rank = int(os.environ["RANK"])
    start = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
    total_of = (lambda value: value) if given.get("meet") == "no" else meet(rank)

    seen = {name: os.environ[name] for name in NAMES}
    seen |= {"sum": total_of(rank), "node": os.environ.get("SLURMD_NODENAME"), "arguments": sys.argv[1:]}

    state = folder / "state.json"
    step = json.loads(state.read_text())["step"] if state.exists() else 0
    seen["first_step"] = step
    (folder / f"rank{rank}.start{start}.json").write_text(json.dumps(seen))

    while step < steps:
        step += 1
        if rank == int(given.get("fail_rank", "-1")):
            os._exit(int(given["fail_status"]))  # as training does, see `end_process`
        if given.get("hang"):
            time.sleep(600)
        time.sleep(float(given.get("step_s", "0")))
        asked = total_of(len(received))
        if rank == 0:
            new = state.with_suffix(".new")
            new.write_text(json.dumps({"step": step, "signals": received}))
            new.replace(state)
        if asked:
            (folder / f"rank{rank}.saved{start}.json").write_text(json.dumps(received))
            return 75
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Nobody has taken the process group down, and gloo's threads may abort a shutdown with it up.
    os._exit(status)
