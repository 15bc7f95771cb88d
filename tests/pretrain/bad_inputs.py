"""What a user sees who gets something wrong: `python -m tests.pretrain.bad_inputs` prints the table.

Every case is a real command in a process of its own (`tests/entry_process.py`). It must end with a non-zero status and
one message that says what is wrong and what would be right, without a traceback, and leave nothing half-written behind.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.entry_process import run_entry
from tests.pretrain import breakage
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import make_corpus, tiny_config

ROOT = Path(__file__).resolve().parents[2]
PRETRAIN = ["pretrain/main.py"]


@dataclass(frozen=True)
class BadInput:
    """One mistake.

    Attributes:
        name: what is wrong, in a few words.
        says: parts that the message must have.
        argv: the command, after `python`; `{work}` is the case's directory.
        prepare: makes the mistake in the case's directory, which holds a tiny corpus and a trained run.
        status: what the command must end with.
        held: something that is in force while the command runs.
    """

    name: str
    says: tuple[str, ...]
    argv: list[str]
    prepare: Callable[[Path], None] = lambda work: None
    status: int = 2
    held: Callable[[Path], AbstractContextManager[None]] = field(default=lambda work: nullcontext())


def pretrain(*overrides: str) -> list[str]:
    """Train from the case's own config file."""
    return [*PRETRAIN, "--config", "{work}/run.yaml", *overrides]


WRONG_CONFIGS = (
    BadInput("unknown key", ("hiden_size", "model.hidden_size"), pretrain("model.hiden_size=64")),
    BadInput(
        "wrong type",
        ("training.micro_batch_size", "'many'", "a whole number"),
        pretrain("training.micro_batch_size=many"),
    ),
    BadInput("layout that does not fit", ("tensor size 3", "such as tensor"), pretrain("parallel.tensor_size=3")),
    BadInput(
        "batch that does not divide",
        ("global_batch_size 7", "such as 6 or 8"),
        pretrain("training.global_batch_size=7"),
    ),
    BadInput("recipe that is not there", ("gpt-tinny", "did you mean: gpt-tiny"), [*PRETRAIN, "--config", "gpt-tinny"]),
    BadInput(
        "file that is not YAML",
        ("bad.yaml, line 3", "not valid YAML"),
        [*PRETRAIN, "--config", "{work}/bad.yaml"],
        breakage.write("bad.yaml", "model:\n  num_layers: [4\n"),
    ),
    BadInput(
        "unknown choice", ("optimizer.schedule", "'cosin'", "did you mean cosine"), pretrain("optimizer.schedule=cosin")
    ),
    BadInput("contradicting values", ("min_lr 1.0 is above lr",), pretrain("optimizer.min_lr=1.0")),
    BadInput(
        "fp16 without a GPU", ("fp16 needs a GPU", "bf16"), pretrain("training.precision=fp16", "training.device=cpu")
    ),
    BadInput(
        "model that no memory here holds",
        ("it holds", "this machine's memory", "another layout", "ZeRO 1"),
        pretrain("model.hidden_size=131072", "model.num_layers=64", "training.device=cpu"),
    ),
    BadInput("duration without a unit", ("training.duration", "'1000 steps'"), pretrain("training.duration=100")),
    BadInput("not an override", ("'seed'", "key=value"), pretrain("seed")),
    BadInput(
        "offload with nothing sharded",
        ("offload_optimizer", "zero_stage"),
        pretrain("parallel.offload_optimizer=true", "parallel.zero_stage=0"),
    ),
    BadInput(
        "sequence parallelism alone",
        ("sequence_parallel", "tensor_size above 1"),
        pretrain("parallel.sequence_parallel=true"),
    ),
    BadInput(
        "wrong config of another entry",
        ("vocab_sise", "did you mean vocab_size"),
        ["-m", "data_prep", "train-tokenizer", "--config", "tokenizer-bpe-8k", "vocab_sise=9"],
    ),
)

BROKEN_INPUTS = (
    BadInput("corpus that is not there", ("corpuss", "corpus"), pretrain("data.train={work}/corpuss")),
    BadInput(
        "the same, in a new directory",
        ("corpuss",),
        pretrain("data.train={work}/corpuss", "output={work}/new"),
    ),
    BadInput("damaged token counts", ("token_counts.npy", "damaged"), pretrain(), breakage.damage_counts),
    BadInput("missing shard", (".bin",), pretrain(), breakage.remove_shard),
    BadInput("truncated shard", (".bin", "bytes"), pretrain(), breakage.truncate_shard),
    BadInput(
        "corpora of two tokenizers",
        ("tokenizer",),
        pretrain("data.train=[{work}/corpus,{work}/other]"),
        breakage.other_tokenizer,
    ),
    BadInput("all checkpoints damaged", ("step_00000003", "damaged"), pretrain(), breakage.damage_checkpoints),
    BadInput(
        "all checkpoints without a manifest",
        ("step_00000003", "manifest.json", "damaged"),
        pretrain(),
        breakage.remove_manifests,
    ),
    BadInput("checkpoint of another model", ("model.num_layers", "allow_changes"), pretrain("model.num_layers=4")),
    BadInput("full disk", ("free",), pretrain("output={work}/small/run"), held=breakage.full_disk),
    BadInput(
        "unwritable directory", ("file",), pretrain("output={work}/file"), breakage.write("file", "not a directory")
    ),
    BadInput("port in use", ("6873",), pretrain("monitor.serve_tensorboard=6873"), held=breakage.port_taken),
    BadInput("vocabulary too small", ("model.vocab_size",), pretrain("model.vocab_size=100")),
    BadInput(
        "malformed line of text",
        ("broken.jsonl", "line 2"),
        [
            "-m",
            "data_prep",
            "tokenize",
            "--strict",
            "--input",
            "{work}/broken.jsonl",
            "--tokenizer",
            "{work}/corpus/tokenizer",
            "--output",
            "{work}/new",
        ],
        breakage.write("broken.jsonl", '{"text": "fine"}\n{"text": "cut off\n'),
    ),
    BadInput(
        "export of no checkpoint",
        ("nowhere",),
        ["-m", "finetune", "export", "--model", "{work}/nowhere", "--output", "{work}/out"],
    ),
    BadInput(
        "export of a damaged checkpoint",
        ("step_00000003",),
        ["-m", "finetune", "export", "--model", "{work}/run", "--output", "{work}/out"],
        breakage.damage_checkpoints,
    ),
    BadInput(
        "classifier without labels",
        ("label",),
        [
            "-m",
            "finetune",
            "classify",
            "--config",
            "classify-kind",
            "model={work}/run",
            "data.train={work}/text.jsonl",
            "output={work}/out",
        ],
        breakage.write("text.jsonl", '{"text": "a"}\n' * 50),
    ),
)


@dataclass(frozen=True)
class Seen:
    """What the user saw: the message, the status, and what is left of what was not there before."""

    message: str
    status: int
    left: list[str]


class Workplace:
    """A tiny corpus and a short run of it, made once, copied for every case."""

    def __init__(self, root: Path) -> None:
        self.root = root
        corpus = make_corpus(root / "made")
        self._template = root / "template"
        shutil.copytree(corpus, self._template / "corpus")
        from configs.load import to_yaml

        config = tiny_config(Path("WORK/run"), Path("WORK/corpus"), training__duration="3 steps")
        (self._template / "run.yaml.in").write_text(to_yaml(config))
        done = run(self.fresh("trained"), pretrain())
        if done.status != 0:
            raise RuntimeError(done.message)
        shutil.copytree(root / "trained/run", self._template / "run")

    def fresh(self, name: str) -> Path:
        """A copy of its own for one case."""
        work = self.root / name.replace(" ", "-")
        shutil.copytree(self._template, work)
        text = (work / "run.yaml.in").read_text().replace("WORK", str(work))
        (work / "run.yaml").write_text(text)
        return work

    def see(self, case: BadInput) -> Seen:
        """Make the mistake and look."""
        work = self.fresh(case.name)
        case.prepare(work)
        with case.held(work):
            return run(work, case.argv)


def run(work: Path, argv: list[str]) -> Seen:
    """Run a command and see what it says and leaves."""
    before = set(work.rglob("*"))
    done = run_entry([part.replace("{work}", str(work)) for part in argv], cwd=ROOT, preload=SESSION)
    left = sorted(str(path.relative_to(work)) for path in set(work.rglob("*")) - before)
    return Seen(done.stderr.replace(str(work), "WORK").strip(), done.returncode, left)


def problems(case: BadInput, seen: Seen) -> list[str]:
    """What is not as a user may expect."""
    found = []
    if seen.status != case.status:
        found.append(f"status {seen.status}, not {case.status}")
    if "Traceback" in seen.message:
        found.append("a traceback")
    if seen.message.count("error: ") != 1:
        found.append("not one message")
    found += [f"does not say {part!r}" for part in case.says if part not in seen.message]
    found += [f"left {name}" for name in seen.left if "checkpoints/step_" in name or name.startswith(("new", "out"))]
    return found


def main() -> int:
    """Print the table; 1 if any case is not as it should be."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="bad-inputs-") as root:
        workplace = Workplace(Path(root))
        for title, cases in (("wrong configs", WRONG_CONFIGS), ("broken inputs", BROKEN_INPUTS)):
            print(f"== {title}: {len(cases)}")
            for case in cases:
                seen = workplace.see(case)
                found = problems(case, seen)
                failed += bool(found)
                print(f"- {case.name} (status {seen.status}){': ' + '; '.join(found) if found else ''}")
                print("    " + seen.message.replace("\n", "\n    "), flush=True)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
