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
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from configs.load import find_recipe, load_config
from pretrain.config import RunConfig
from tests.killed_runs import finish, kill_until_through
from tests.pretrain.tiny_run import make_corpus, states_differ, tiny_config, train_records


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


def _run(config: RunConfig) -> int:
    from pretrain.main import run

    return int(run(config))


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
    configured = bert_config if options.bert else functools.partial(gpt_config, optimizer=options.optimizer)
    straight = configured(root / "straight", corpus, options.steps)
    whole_s = finish(functools.partial(_run, straight), root / "straight.log")
    print(f"undisturbed run: {whole_s:.1f} s", flush=True)

    killed = configured(root / "killed", corpus, options.steps)
    kills, during_save = kill_until_through(
        functools.partial(_run, killed),
        killed.output / "checkpoints",
        root / "killed.log",
        kills=options.kills,
        seed=options.seed,
        whole_s=whole_s,
    )

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
