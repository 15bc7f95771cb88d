"""Classification from a checkpoint to figures, predictions and a directory that transformers loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import ConfigError, DataError, ExitStatus, MachineError, UserError
from finetune.config import ExportConfig
from finetune.huggingface.export import export
from finetune.run_task import TaskResult, run_task, show
from finetune.tasks.classify import ClassifyTask
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_texts import classify_config, prepare
from tests.finetune.finetune_tokenizers import train_tokenizer

SHORT: dict[str, Any] = {"training__duration": "1 steps", "baselines": []}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("classify")
    prepare(root)
    return root


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return []


@pytest.fixture(scope="module")
def result(root: Path, lines: list[str]) -> TaskResult:
    found = run_task(classify_config(root, "classifier", training__zero_stage=2), lines.append)
    assert found is not None
    return found


def predictions(folder: Path, part: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"predictions-{part}.jsonl").read_text().splitlines()]


def test_it_learns_and_says_what_ran(result: TaskResult, lines: list[str]) -> None:
    assert result.test["fine-tuned"]["accuracy"] > 0.9 > result.test["most frequent label"]["accuracy"] + 0.3
    assert result.test["TF-IDF + logistic regression"]["accuracy"] > 0.9
    expected = {"engine": "DeepSpeedEngine", "zero_stage": 2, "optimizer": "DeepSpeedZeroOptimizer", "world_size": 1}
    assert result.record["ran"] == expected | {"device": "cuda" if torch.cuda.is_available() else "cpu"}
    losses = [row["loss"] for row in result.record["history"] if "loss" in row]
    assert losses[-1] < 0.5 * losses[0] and len(losses) == result.record["steps"]
    assert any("samples/s" in line for line in lines) and sum("validation at" in line for line in lines) == 6
    best = max(row["validation_macro_f1"] for row in result.record["history"] if "validation_macro_f1" in row)
    assert result.record["validation"]["fine-tuned"]["macro_f1"] == pytest.approx(best)


def test_the_directory_gives_the_predictions_in_transformers_alone(result: TaskResult, root: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = root / "classifier"
    model, codec = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert list(model.config.id2label.values()) == result.record["labels"] == ["error", "file", "value"]
    assert json.loads((folder / "labels.json").read_text()) == result.record["labels"]
    texts = {json.loads(line)["id"]: json.loads(line) for line in (root / "texts.jsonl").read_text().splitlines()}
    told = predictions(folder)
    assert len(told) == result.record["test"]["fine-tuned"]["samples"] > 15
    right = 0
    for row in told:
        assert row["gold"] == texts[row["id"]]["kind"]
        with torch.no_grad():
            logits = model(**codec(texts[row["id"]]["text"], return_tensors="pt")).logits[0]
        found = torch.softmax(logits, -1).tolist()
        assert list(row["probabilities"].values()) == pytest.approx(found, abs=1e-4)
        assert row["predicted"] == model.config.id2label[int(logits.argmax())]
        right += row["predicted"] == row["gold"]
    assert right / len(told) == pytest.approx(result.record["test"]["fine-tuned"]["accuracy"])
    # Padded together on the right, each text is still judged by its own last token.
    batch = [texts[row["id"]]["text"] for row in told[:8]]
    with torch.no_grad():
        together = model(**codec(batch, return_tensors="pt", padding=True)).logits.softmax(-1)
    for row, found in zip(told, together.tolist()):
        assert list(row["probabilities"].values()) == pytest.approx(found, abs=1e-4)
    assert (folder / "confusion-test.png").stat().st_size > 5000


@pytest.mark.slow
def test_it_starts_from_the_pretrained_weights(root: Path, result: TaskResult) -> None:
    """With a learning rate of next to nothing, the body is that of the checkpoint."""
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    from pretrain.checkpoint.model_checkpoint import open_checkpoint
    from pretrain.models.huggingface.weights import to_hf

    changes = {"optimizer__lr": 1e-12, "training__duration": "1 steps", "baselines": []}
    for name, model in (("from-run", root / "run"), ("from-export", root / "export")):
        if name == "from-export":
            export(ExportConfig(model=root / "run", output=model, sequences=1), reference=oracle_outputs)
        assert run_task(classify_config(root, name, model=model, **changes), lambda line: None)
        saved = load_file(root / name / "model.safetensors")
        source = open_checkpoint(root / "run")
        for key, tensor in to_hf(source.tensors, source.model):
            assert torch.allclose(saved[key], tensor, atol=1e-7), key
    assert predictions(root / "from-run") == predictions(root / "from-export")
    codecs = [AutoTokenizer.from_pretrained(root / name) for name in ("from-run", "from-export")]
    encoded = [codec(["a class ", "b"], padding=True).input_ids for codec in codecs]
    assert encoded[0] == encoded[1] and encoded[0][0][-1] == 1 and encoded[0][1][-1] == 2


@pytest.mark.slow
def test_the_same_seed_gives_the_same_classifier(root: Path, result: TaskResult) -> None:
    again = run_task(classify_config(root, "again", training__zero_stage=2), lambda line: None)
    assert again is not None and again.record["history"] == result.record["history"]
    assert predictions(root / "again") == predictions(root / "classifier")


@pytest.mark.slow
def test_options_change_what_they_say(root: Path) -> None:
    changes: dict[str, Any] = {
        "training__duration": "8 epochs",
        "training__patience": 1,
        "training__select_by": "loss",
        "training__micro_batch_size": 4,
        "training__batch_size": 32,
        "class_weights": "balanced",
        "optimizer__lr": 1e-1,
        "baselines": ["scratch"],
    }
    found = run_task(classify_config(root, "options", **changes), lambda line: None)
    assert found is not None and set(found.test) == {"fine-tuned", "from scratch"}
    assert found.record["steps"] < 8 * 5 and found.record["best_step"] < found.record["steps"]
    losses = [row["validation_loss"] for row in found.record["history"] if "validation_loss" in row]
    assert losses[-1] > min(losses) and found.record["validation"]["fine-tuned"]["loss"] == pytest.approx(min(losses))
    assert found.record["ran"]["zero_stage"] == 0


def test_a_classifier_is_not_a_language_model(root: Path, result: TaskResult) -> None:
    from finetune.generate import generate
    from finetune.sampling import Sampling

    with pytest.raises(DataError, match="holds a LlamaForSequenceClassification"):
        list(generate(root / "classifier", ["x"], Sampling()))
    with pytest.raises(DataError, match="expected: a language model"):
        run_task(classify_config(root, "wrong", model=root / "classifier"), lambda line: None)


LAST_STEP = {"optimizer__lr": 1e30, "optimizer__warmup": "0 steps", "optimizer__schedule": "constant"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"training__micro_batch_size": 5}, "training.micro_batch_size: is 5"),
        ({"training__precision": "bf16"}, "training.zero_stage: is 0 together with precision=bf16"),
        ({"optimizer__lr": 1e30, "optimizer__clip_grad_norm": 0, "optimizer__warmup": "0 steps"}, "the loss is nan"),
        (LAST_STEP | {"training__duration": "2 steps"}, "the validation loss is nan at step 2"),
        (LAST_STEP | {"optimizer__lr": 3e38}, "training: the loss is nan at step 2"),
        ({"model": "/nowhere"}, "does not exist"),
    ],
)
def test_mistakes_are_one_message_and_leave_nothing(root: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as caught:
        run_task(classify_config(root, "wrong", **changes), lambda line: None)
    assert named in str(caught.value)
    assert not list(root.glob("wrong*")) and not list(root.glob(".*"))


NOT_NUMBERS = np.array([np.nan, 1.0, 0.0], dtype=np.float32)


def test_weights_and_probabilities_that_are_not_numbers(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("torch.isfinite", lambda weights: torch.zeros(weights.shape, dtype=torch.bool))
        with pytest.raises(UserError, match="a weight is not finite at step 1") as caught:
            run_task(classify_config(root, "wrong", **SHORT), lambda line: None)
        assert caught.value.status == ExitStatus.DIVERGED
    with monkeypatch.context() as patch:
        patch.setattr(ClassifyTask, "predict", lambda self, model, part, numbers, device: [NOT_NUMBERS] * len(numbers))
        patch.setattr(ClassifyTask, "validation_figures", lambda *given: {"macro_f1": 0.5})
        with pytest.raises(UserError, match="probabilities that are not numbers") as caught:
            run_task(classify_config(root, "wrong", **SHORT), lambda line: None)
        assert caught.value.status == ExitStatus.DIVERGED
    assert not (root / "wrong").exists()


def test_a_plot_that_fails_costs_the_plot(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_memory(figures: object, path: Path) -> None:
        path.write_text("half a picture")
        raise MemoryError("Unable to allocate\n27.0 GiB")

    monkeypatch.setattr("finetune.tasks.classification_metrics.plot_confusion", no_memory)
    said: list[str] = []
    found = run_task(classify_config(root, "unplotted", **SHORT), said.append)
    warnings = [line for line in said if line.startswith("warning")]
    assert warnings == ["warning: confusion-test.png was not drawn (MemoryError: Unable to allocate 27.0 GiB)"]
    # One step, and a warm-up of four.
    assert [line for line in said if "warmup" in line] == [
        "optimizer.warmup (4 steps) is longer than the run: the learning rate ends on its way up, at 0.00125, and never"
        " reaches optimizer.lr (0.005)"
    ]
    assert found is not None and (root / "unplotted" / "classify.json").is_file()
    assert not (root / "unplotted" / "confusion-test.png").exists()
    show(found, classify_config(root, "unplotted", **SHORT))
    assert "confusion-test.png" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["run", "exported"])
def test_transformers_cuts_texts_where_training_did(root: Path, kind: str) -> None:
    from transformers import pipeline

    if kind == "exported":
        export(ExportConfig(model=root / "run", output=root / kind, sequences=1), reference=oracle_outputs)
    name = f"cut-{kind}"
    found = run_task(classify_config(root, name, model=root / kind, data__max_tokens=8, **SHORT), lambda line: None)
    assert found is not None
    texts = {json.loads(line)["id"]: json.loads(line)["text"] for line in (root / "texts.jsonl").open()}
    judge = pipeline("text-classification", str(root / name), truncation=True, top_k=None, device="cpu")
    assert judge.tokenizer.model_max_length == 8
    long = [row for row in predictions(root / name) if len(texts[row["id"]].split()) > 10]
    assert len(long) > 3
    for row in long:
        told = {each["label"]: each["score"] for each in judge([texts[row["id"]]])[0]}
        assert told == pytest.approx(row["probabilities"], abs=1e-5)


def test_the_output_is_checked_before_anything_else(root: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds other things"):
        run_task(classify_config(root, "x", output=tmp_path, overwrite=True, model="/nowhere"))
    with pytest.raises(MachineError):
        run_task(classify_config(root, "x", output="/proc/nowhere/x", model="/nowhere"))
    assert ConfigError is not DataError


@pytest.mark.slow
def test_a_gpt2_with_a_tokenizer_without_pad_token(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    prepare(tmp_path)
    tokenizer = train_tokenizer(tmp_path / "tok", pad_id=-1)
    fields = {"position_embedding": "learned", "normalization": "LayerNorm", "activation": "gelu_tanh", "bias": True}
    model = llama(tokenizer, **fields, num_query_groups=None)
    write_run(tmp_path / "gpt2", model, tokenizer)
    # Texts are read at their last token that is no padding: the closing token must not be the padding.
    for closed, pad in ((True, 0), (False, 0)):
        changes = {"training__duration": "2 epochs", "data__append_end_of_document": closed, "overwrite": True}
        found = run_task(classify_config(tmp_path, "out", model=tmp_path / "gpt2", baselines=[], **changes), list)
        assert found is not None and json.loads((tmp_path / "out" / "config.json").read_text())["pad_token_id"] == pad
        codec = AutoTokenizer.from_pretrained(tmp_path / "out")
        assert codec.pad_token_id == pad
        assert (codec("a b").input_ids[-1] == tokenizer.role("end_of_document")) is closed


@pytest.mark.slow
def test_bfloat16(root: Path) -> None:
    changes = {"training__precision": "bf16", "training__zero_stage": 1, "baselines": []}
    found = run_task(classify_config(root, "bf16", **changes), lambda line: None)
    assert found is not None and found.test["fine-tuned"]["accuracy"] > 0.8
    assert json.loads((root / "bf16" / "config.json").read_text())["dtype"] == "bfloat16"


@pytest.mark.slow
def test_the_command_under_torchrun_prints_tables_once(root: Path) -> None:
    launch = [str(Path(sys.executable).with_name("torchrun")), "--standalone", "--nproc-per-node", "2"]
    settings = [f"data.train_texts={root / 'texts.jsonl'}", "data.label_field=kind", "training.duration=1 epochs"]
    options = ["--model", str(root / "run"), "--output", str(root / "launched"), *settings]
    done = subprocess.run(
        [*launch, "-m", "finetune", "classify", *options], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("macro mean") == 1 and done.stdout.count("classifier   ") == 1
    assert json.loads((root / "launched" / "classify.json").read_text())["ran"]["world_size"] == 2
