"""Any task by name: a toy task from a module of the user's own is trained, saved, measured, and edits no file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import ConfigError, DataError, UserError
from finetune.cli import TASK_COMMANDS, run_command
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import prepare

classify_command = TASK_COMMANDS["classify"]

# Marks every token of a text that is the same as the one before: labels per token, so examples count differently.
TOY = '''
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from finetune.tasks.base import FinetuneTask
from finetune.tasks.base_config import TaskConfig


class ToyConfig(TaskConfig):
    """Which tokens are large?"""

    implementation: ClassVar[str] = "toy_task:ToyTask"
    files: ClassVar[tuple[str, ...]] = ("toy.safetensors", "note.txt")
    selects: ClassVar[dict[str, Literal["highest", "lowest"]]] = {"loss": "lowest", "right": "highest"}

    texts: Path
    """Lines of JSON with a text."""


@dataclass(frozen=True)
class Tokens:
    rows: list[list[int]]

    @property
    def lengths(self):
        return [len(row) for row in self.rows]

    @property
    def weights(self):
        return [float(len(row)) for row in self.rows]

    def batch(self, numbers, device):
        import torch

        rows = [torch.tensor(self.rows[number]) for number in numbers]
        ids_BS = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1).to(device)
        return ids_BS.clamp(min=0), (ids_BS > 200).float(), (ids_BS >= 0).float()


class ToyTask(FinetuneTask):
    def __init__(self, config):
        self.config = config

    def read(self):
        import json

        texts = [json.loads(line)["text"] for line in self.config.texts.open()]
        return {"train": texts[40:200], "validation": texts[:20], "test": texts[20:40]}

    def encode(self, pretrained, examples):
        return Tokens(pretrained.codec.encode_batch(list(examples)))

    def network(self, pretrained, *, from_scratch=False):
        import torch

        table = next(t for name, t in pretrained.tensors.items() if "embed_tokens" in name)
        body = torch.nn.Embedding(*table.shape)
        if not from_scratch:
            body.weight.data.copy_(table)
        return torch.nn.Sequential(body, torch.nn.Linear(table.shape[1], 1))

    def losses(self, model, part, numbers, device):
        from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

        ids_BS, gold_BS, real_BS = part.batch(numbers, device)
        return cross_entropy(model(ids_BS)[..., 0].float(), gold_BS, weight=real_BS, reduction="none").sum(1)

    def predict(self, model, part, numbers, device):
        ids_BS, gold_BS, real_BS = part.batch(numbers, device)
        right_BS = ((model(ids_BS)[..., 0] > 0) == (gold_BS > 0)) * real_BS
        losses_B = self.losses(model, part, numbers, device)
        return [(float(r), float(l)) for r, l in zip(right_BS.sum(1), losses_B)]

    def validation_figures(self, part, predicted):
        return self.figures(part, predicted)

    def figures(self, part, predicted):
        right, loss = (sum(column) / sum(part.weights) for column in zip(*predicted))
        return {"right": right, "loss": loss}

    def prediction(self, example, predicted):
        return {"text": example, "right": predicted[0]}

    def save(self, folder, network, weights, pretrained):
        from safetensors.torch import save_file

        save_file(weights, folder / "toy.safetensors")

    def load(self, folder):
        import torch
        from safetensors.torch import load_file

        weights = load_file(folder / "toy.safetensors")
        network = torch.nn.Sequential(torch.nn.Embedding(*weights["0.weight"].shape), torch.nn.Linear(32, 1))
        network.load_state_dict(weights)
        return network

    def plots(self):
        return {"note.txt": lambda figures, path: path.write_text(f"{figures['right']:.2f}")}

    def next_command(self, folder):
        return f"ls {folder}"
'''


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    prepare(root)
    (root / "toy_task.py").write_text(TOY)
    return root


@pytest.fixture
def importable(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(root)


def settings(root: Path, output: str, *more: str) -> list[str]:
    given = (f"texts={root / 'texts.jsonl'}", f"model={root / 'run'}", f"output={root / output}")
    return ["task=toy_task:ToyConfig", *given, "optimizer.lr=2e-2", "training.batch_size=24", *more]


def run_on_rank(root: str, given: list[str]) -> None:
    sys.path.insert(0, root)
    run_command(given)


def record(root: Path, output: str) -> dict[str, Any]:
    return json.loads((root / output / "task.json").read_text())


def test_a_task_of_ones_own(root: Path, importable: None, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(settings(root, "out", "training.duration=3 epochs", "training.select_by=right", "baselines=[scratch]"))
    found, out = record(root, "out"), capsys.readouterr().out
    assert found["task"] == "toy_task:ToyConfig" and found["source"]["step"] == 20
    assert found["test"]["fine-tuned"]["right"] > 0.9 and set(found["test"]) == {"fine-tuned", "from scratch"}
    losses = [row["loss"] for row in found["history"] if "loss" in row]
    assert losses[-1] < losses[0] and found["ran"]["engine"] == "DeepSpeedEngine"
    assert found["validation"]["fine-tuned"]["right"] == max(row.get("validation_right", 0) for row in found["history"])
    assert len((root / "out" / "predictions-test.jsonl").read_text().splitlines()) == 20
    assert (root / "out" / "note.txt").read_text() == f"{found['test']['fine-tuned']['right']:.2f}"
    assert f"next: ls {root / 'out'}" in out and "test: fine-tuned" in out and "from scratch" in out
    # The recipe that it leaves runs again, and replaces what it made and nothing else.
    with pytest.raises(DataError, match="exists already"):
        run_command([], config=[str(root / "out" / "recipe.yaml")])
    run_command(["training.duration=1 steps"], config=[str(root / "out" / "recipe.yaml")], overwrite=True)
    (root / "out" / "thesis.tex").touch()
    with pytest.raises(DataError, match=r"holds other things: thesis\.tex"):
        run_command([], config=[str(root / "out" / "recipe.yaml")], overwrite=True)


@pytest.mark.slow
def test_two_ranks_weigh_what_each_example_counts(root: Path) -> None:
    # 160 examples in batches of 24: the seventh step has 16, so one rank has places without an example.
    for output, world_size, more in (
        ("one", 1, ()),
        ("two", 2, ("training.zero_stage=3", "training.micro_batch_size=4")),
    ):
        given = settings(root, output, "training.duration=8 steps", "training.log_interval=1", *more)
        run_ranks(run_on_rank, world_size, str(root), given, process_group=False, preload=("deepspeed", "transformers"))
    one, two = record(root, "one"), record(root, "two")
    assert two["ran"]["world_size"] == 2 and two["ran"]["zero_stage"] == 3
    assert len(one["history"]) == len(two["history"]) >= 9
    for mine, theirs in zip(two["history"], one["history"]):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert two["test"]["fine-tuned"] == pytest.approx(one["test"]["fine-tuned"], rel=1e-4)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (
            ["task=clasify"],
            "task: there is no fine-tuning task 'clasify'; expected one of classify, tag, qa, seq2seq, "
            "prefer, distill, embed, or module:Class",
        ),
        (["task=toy_task:ToyTask"], "is not the config class of a fine-tuning task"),
        (["task=no_such_module:X"], "cannot be imported"),
        ([], "no task was given"),
        (["task=toy_task:ToyConfig", "text=x"], "did you mean texts"),
        (["training.select_by=macro_f1"], "training.select_by is 'macro_f1'; expected one of loss, right"),
        (["name=classify"], "name is 'classify', but these are the keys of ToyConfig"),
    ],
)
def test_mistakes_are_named(root: Path, importable: None, given: list[str], named: str) -> None:
    whole = given if not given or given[0].startswith("task=") else settings(root, "wrong", *given)
    with pytest.raises(UserError) as caught:
        run_command(whole)
    assert named in str(caught.value)


def test_classify_is_the_task_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    run_command(["task=classify", "seed=7"], config=["classify-kind"], print_config=True)
    by_name = capsys.readouterr().out
    classify_command(["seed=7"], config=["classify-kind"], print_config=True)
    assert capsys.readouterr().out == by_name and by_name.startswith("name: classify\n")
    with pytest.raises(ConfigError, match=r"name is 'classfy'|no fine-tuning task"):
        classify_command(["name=classfy"], config=["classify-kind"], print_config=True)


def test_losses_are_one_per_example(root: Path, importable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    run_command(settings(root, "printed"), print_config=True)
    import toy_task  # type: ignore[import-not-found]

    monkeypatch.setattr(toy_task.ToyTask, "losses", lambda *given: torch.zeros(()))
    with pytest.raises(ValueError, match=r"ToyTask\.losses gave the shape \(\) for 24 examples"):
        run_command(settings(root, "wrong"))
    assert not (root / "wrong").exists()


@pytest.mark.parametrize(("key", "given"), [("duration", "2 h"), ("evaluate_every", "1M tokens")])
def test_a_length_that_a_task_cannot_count_is_refused(key: str, given: str) -> None:
    with pytest.raises(ConfigError, match=f"training.{key} = '{given}': is in .*; expected epochs, steps or samples"):
        classify_command([f"training.{key}={given}"], config=["classify-kind"], print_config=True)


@pytest.mark.parametrize("key", ["warmup", "decay"])
def test_a_schedule_in_tokens_is_refused(key: str) -> None:
    expected = f"optimizer.{key} = '1000 tokens': is in tokens, which texts differ in; expected steps or samples"
    with pytest.raises(ConfigError, match=expected):
        classify_command([f"optimizer.{key}=1k tokens"], config=["classify-kind"], print_config=True)
    classify_command(
        ["optimizer.warmup=5 samples", f"optimizer.{key}=10 samples"], config=["classify-kind"], print_config=True
    )


@pytest.mark.parametrize("setting", ["average_decay=0.9", "final_weight_decay=0.2", "restart_at=5 steps", "name=muon"])
def test_what_only_pretraining_reads_of_an_optimizer_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"only pretraining reads|pretraining alone can tell it of"):
        classify_command([f"optimizer.{setting}", "optimizer.lr=0.1"], config=["classify-kind"], print_config=True)


def test_an_optimizer_that_is_not_element_wise_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lamb_of_mine.py").write_text(
        "from pretrain.config import OptimizerConfig\nclass Lamb(OptimizerConfig):\n    implementation = 'nowhere:X'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    given = ["optimizer.name=lamb_of_mine:Lamb", "optimizer.lr=0.1"]
    with pytest.raises(ConfigError, match="does not declare that its updates are element-wise"):
        classify_command(given, config=["classify-kind"], print_config=True)
