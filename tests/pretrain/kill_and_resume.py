"""Kills a run with SIGKILL at random moments until it is through, and compares it with one that nobody disturbed.

    python -m tests.pretrain.kill_and_resume --kills 20
    python -m tests.pretrain.kill_and_resume --kills 20 --bert
    python -m tests.pretrain.kill_and_resume --kills 10 --optimizer muon

Prints what each kill found, and ends with status 1 unless the final weights, moments, losses and sample numbers are
bitwise those of the undisturbed run. Half of the kills come while a checkpoint is being written.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from configs.load import find_recipe, load_config
from pretrain.config import RunConfig
from tests.pretrain.tiny_run import make_corpus, states_differ, tiny_config, train_records

RANKS = 2


def gpt_config(output_dir: Path, corpus: Path, steps: int, optimizer: str = "adamw") -> RunConfig:
    """A small GPT with dropout, under ZeRO-3."""
    return tiny_config(
        output_dir,
        corpus,
        training__duration=f"{steps} steps",
        parallel__zero_stage=3,
        checkpoint__keep_last=3,
        optimizer__name=optimizer,
    )


def bert_config(output_dir: Path, corpus: Path, steps: int) -> RunConfig:
    """The recipe bert-tiny with dropout, as long as asked for; its sizes, batches, objective and optimizer are kept."""
    settings = {
        "output": output_dir,
        "data.train": corpus,
        "data.split": "[0.9,0.05,0.05]",
        "model.hidden_dropout": 0.1,
        "model.attention_dropout": 0.1,
        "training.duration": f"{steps} steps",
        "training.device": "cpu",
        "optimizer.warmup": "4 steps",
        "evaluation.interval": "12 steps",
        "evaluation.batches": 2,
        "checkpoint.interval": "3 steps",
        "checkpoint.keep_last": 3,
        "monitor.log_interval": 1,
        "monitor.tensorboard": "false",
        "monitor.peak_tflops": 1.0,
    }
    overrides = [f"{key}={value}" for key, value in settings.items()]
    return load_config(RunConfig, find_recipe("bert-tiny", "pretrain"), overrides)


def preload() -> None:
    """Import what a run needs, so that forked attempts need not."""
    import torch

    torch.set_num_threads(1)
    from pretrain.engine import upstream

    upstream.import_deepspeed()
    import pretrain.models.encoder.network
    import pretrain.models.gpt.network
    import pretrain.trainer  # noqa: F401


def start(config: RunConfig, log: Path) -> int:
    """Start a run's ranks in a process group of their own; returns the leader's process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    leader = os.fork()
    if leader:
        return leader
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    ranks = []
    for rank in range(RANKS):
        child = os.fork()
        if not child:
            os.environ.update(RANK=str(rank), WORLD_SIZE=str(RANKS), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(RANKS))
            os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            os._exit(_run(config))
        ranks.append(child)
    os._exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in ranks))


def _run(config: RunConfig) -> int:
    import traceback

    from pretrain.main import run

    try:
        return int(run(config))
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()


def ended(leader: int) -> int | None:
    """The run's exit status; None while it runs."""
    child, status = os.waitpid(leader, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if child else None


def newest(checkpoints: Path) -> int:
    """Step of the newest complete checkpoint; 0: none."""
    return max((int(path.name.removeprefix("step_")) for path in checkpoints.glob("step_*[0-9]")), default=0)


def attempt(
    config: RunConfig, log: Path, chance: random.Random, *, in_save: bool, longest_s: float, furthest_steps: float
) -> str:
    """Run until a random moment, or through; says what happened."""
    leader, started_s = start(config, log), time.monotonic()
    deadline_s = started_s + (chance.uniform(0.2, longest_s) if longest_s < 1e9 else longest_s)
    checkpoints = config.output / "checkpoints"
    old, complete = set(checkpoints.glob(".tmp-*")), newest(checkpoints)
    while (status := ended(leader)) is None:
        saving = set(checkpoints.glob(".tmp-*")) - old
        # Two saves are enough for one attempt: there must be something left for the other kills.
        is_time = time.monotonic() > deadline_s or newest(checkpoints) >= complete + furthest_steps
        if is_time and (saving or not in_save):
            os.killpg(leader, signal.SIGKILL)
            os.waitpid(leader, 0)
            half_written = len(set(checkpoints.glob(".tmp-*")) - old)
            return f"killed after {time.monotonic() - started_s:.2f} s{', during a save' if half_written else ''}"
        time.sleep(0 if in_save else 0.005)
    if status != 0:
        raise SystemExit(f"the run ended with status {status}:\n{log.read_text()[-4000:]}")
    return "finished"


def main() -> int:
    """Run, kill, compare; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bert", action="store_true", help="the recipe bert-tiny instead of a small GPT")
    parser.add_argument("--optimizer", default="adamw", help="of the small GPT")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    corpus = make_corpus(root / "data", sentences=options.bert)
    preload()
    chance = random.Random(options.seed)
    configured = bert_config if options.bert else functools.partial(gpt_config, optimizer=options.optimizer)
    straight = configured(root / "straight", corpus, options.steps)
    started_s = time.monotonic()
    leader = start(straight, root / "straight.log")
    while (status := ended(leader)) is None:
        time.sleep(0.02)
    if status != 0:
        raise SystemExit((root / "straight.log").read_text()[-4000:])
    whole_s = time.monotonic() - started_s
    print(f"undisturbed run: {whole_s:.1f} s", flush=True)

    killed = configured(root / "killed", corpus, options.steps)
    kills = during_save = 0
    while True:
        # Late enough to make progress now and then, early enough to need all the kills.
        longest_s, furthest = (0.15 * whole_s, 6) if kills < options.kills else (1e9, 1e9)
        in_save = kills % 2 == 1 and kills < options.kills
        happened = attempt(
            killed, root / "killed.log", chance, in_save=in_save, longest_s=longest_s, furthest_steps=furthest
        )
        steps = sorted(p.name for p in (root / "killed" / "checkpoints").glob("step_*"))
        print(f"attempt {kills + 1}: {happened}; newest complete: {steps[-1] if steps else 'none'}", flush=True)
        if happened == "finished":
            break
        kills += 1
        during_save += "during a save" in happened

    last = f"checkpoints/step_{options.steps:08d}"
    differing = states_differ(root / "straight" / last, root / "killed" / last)
    same_records = train_records(root / "straight") == train_records(root / "killed")
    verdict = {
        "kills": kills,
        "during_a_save": during_save,
        "tensors_that_differ": differing,
        "losses_norms_rates_and_sample_numbers_equal": same_records,
        "steps_recorded": len(train_records(root / "killed")),
    }
    print(json.dumps(verdict, indent=2))
    shutil.rmtree(root)
    return int(bool(differing) or not same_records or kills < options.kills)


if __name__ == "__main__":
    sys.exit(main())
