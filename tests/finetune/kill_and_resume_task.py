"""Kills a fine-tuning with SIGKILL at random moments until it is through, and compares it with an undisturbed one.

    python -m tests.finetune.kill_and_resume_task --task classify --kills 10
    python -m tests.finetune.kill_and_resume_task --task module:Class --kills 10 texts={root}/texts.jsonl

Two ranks and ZeRO-3, with dropout. A task that `SETTINGS` does not know is told its settings after the options; in them
`{root}` stands for a directory with `texts.jsonl`, texts of three labels, and the files of `write_examples`. Prints
what each kill found, and ends with status 1 unless weights, history, figures and predictions are bitwise those of the
undisturbed run. Half of the kills come while a checkpoint is being written.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from configs.load import load_config
from finetune.task_output import FINE_TUNED_DIR, training_directory
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.kinds import TASKS
from tests.finetune.finetune_questions import write_squad
from tests.finetune.finetune_tags import tagged, write_conll
from tests.finetune.finetune_texts import prepare
from tests.killed_runs import finish, kill_until_through

SETTINGS = {
    "classify": ["data.train_texts={root}/texts.jsonl", "data.label_field=kind", "baselines=[majority]"],
    "tag": ["data.train_texts={root}/texts.conll"],
    "qa": [
        "data.train_texts={root}/squad.json",
        "data.max_tokens=40",
        "data.max_question_tokens=12",
        "data.stride=8",
    ],
    "seq2seq": [
        "data.train_texts={root}/texts.jsonl",
        "data.source_field=text",
        "data.target_field=kind",
        "data.max_source_tokens=40",
        "data.max_target_tokens=8",
        "generation.num_beams=2",
        "baselines=[copy]",
    ],
    "prefer": [
        "data.train_texts={root}/preferences.jsonl",
        "data.max_prompt_tokens=40",
        "data.max_completion_tokens=12",
    ],
    "embed": ["data.train_texts={root}/preferences.jsonl", "data.text_field=prompt", "data.positive_field=chosen"],
}
"""What a task has to be told to train on what `prepare` and `write_examples` write."""
OF_ALL = [
    "model={root}/run",
    "data.split=[0.7,0.15,0.15]",
    "optimizer.lr=5e-3",
    "training.dropout=0.1",
    "training.batch_size=16",
    "training.zero_stage=3",
    "training.log_interval=5",
    "training.evaluate_every=7 steps",
    "training.save_every=3 steps",
]


def write_examples(root: Path) -> None:
    """Files of the tasks that read no labelled texts: `texts.conll`, `squad.json` and `preferences.jsonl`."""
    write_conll(root / "texts.conll", tagged())
    write_squad(root / "squad.json")
    chance = random.Random(0)
    with (root / "preferences.jsonl").open("w") as file:
        for number in range(160):
            words = chance.sample(["the", "a", "of", "is", "when", "this", "class", "method", "module", "object"], 6)
            record = {"prompt": " ".join(words), "chosen": " ".join(words[:3]), "rejected": " ".join(words[3:])}
            labelled = {"completion": record["chosen" if number % 2 else "rejected"], "label": bool(number % 2)}
            file.write(json.dumps(record | labelled) + "\n")


def task_config(root: Path, name: str, output: str, settings: list[str], steps: int) -> TaskConfig:
    """A small training of a task."""
    declared = TASKS.declaration(name)
    assert issubclass(declared, TaskConfig)
    given = [f"name={name}", f"output={root / output}", *OF_ALL, *SETTINGS.get(name, []), *settings]
    filled = [text.replace("{root}", str(root)) for text in given]
    return load_config(declared, [], [*filled, f"training.duration={steps} steps"])


def differences(one: TaskConfig, other: TaskConfig) -> list[str]:
    """What two results do not share: files of the model and its predictions, and what the record says of training."""
    found = []
    for path in sorted(one.output.iterdir()):
        is_compared = path.is_file() and path.suffix in (".safetensors", ".jsonl")
        if is_compared and path.read_bytes() != (other.output / path.name).read_bytes():
            found.append(path.name)
    records = [json.loads((config.output / config.marker).read_text()) for config in (one, other)]
    return found + [key for key, value in records[0].items() if key != "training_s" and records[1].get(key) != value]


def run(config: TaskConfig) -> int:
    """One rank's part; returns its exit status."""
    from finetune.run_task import run_task

    run_task(config)
    return 0


def preload() -> None:
    """Import what a run needs, so that forked attempts need not."""
    import torch

    torch.set_num_threads(1)
    import transformers  # noqa: F401

    from pretrain.engine import upstream

    upstream.import_deepspeed()
    import finetune.networks  # noqa: F401


def main() -> int:
    """Run, kill, compare; 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--task", default="classify")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("settings", nargs="*", help="key=value")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    prepare(root)
    write_examples(root)
    preload()
    straight, killed = (
        task_config(root, options.task, output, options.settings, options.steps) for output in ("straight", "killed")
    )
    whole_s = finish(functools.partial(run, straight), root / "straight.log")
    print(f"undisturbed run: {whole_s:.1f} s", flush=True)
    checkpoints = training_directory(killed.output) / FINE_TUNED_DIR
    kills, during_save = kill_until_through(
        functools.partial(run, killed),
        checkpoints,
        root / "killed.log",
        kills=options.kills,
        seed=options.seed,
        whole_s=whole_s,
    )
    differing = differences(straight, killed)
    resumed = (root / "killed.log").read_text().count("resumed at step")
    left = training_directory(killed.output).exists()
    print(json.dumps({"kills": kills, "during_a_save": during_save, "resumed": resumed, "differing": differing}))
    shutil.rmtree(root)
    return int(bool(differing) or left or not resumed or kills < options.kills)


if __name__ == "__main__":
    sys.exit(main())
