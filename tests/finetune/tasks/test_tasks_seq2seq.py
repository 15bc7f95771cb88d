"""Text to text from a decoder, T5 and BART: the loss is the target's alone, and transformers alone writes the same."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import ConfigError, DataError
from data_prep.tokenizer import Tokenizer
from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks.seq2seq import Seq2SeqTask
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from pretrain.config.model import ModelConfig
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
SIZES |= {"seq_length": 64, "decoder_seq_length": 40, "vocab_multiple": 64}
WITHOUT_SPECIAL_TOKENS = {"config": {"objective": {"name": "span_corruption"}}}
ANSWERS = {"error": "it raises", "value": "it returns", "file": "it opens"}


def write_pairs(path: Path, count: int = 160) -> Path:
    generator = random.Random(0)
    fill = ["the", "a", "of", "is", "when", "this", "class", "method", "module", "object", "name"]
    with path.open("w") as file:
        for number in range(count):
            word = generator.choice(list(ANSWERS))
            words = [*generator.choices(fill, k=generator.randint(2, 5)), word]
            generator.shuffle(words)
            record = {"id": f"n{number}", "src": " ".join(words), "target": ANSWERS[word]}
            file.write(json.dumps(record) + "\n")
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tok") / "tok", control_symbols=symbols)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("pairs")
    write_pairs(root / "pairs.jsonl")
    sizes = SIZES | {"vocab_size": tokenizer.vocab_size}
    # The ids above the tokenizer's stand for no text.
    write_run(root / "gpt", llama(tokenizer, vocab_size=tokenizer.vocab_size + 3), tokenizer)
    t5: ModelConfig = T5Config.model_validate(sizes)
    write_run(root / "t5", t5, tokenizer, metadata=WITHOUT_SPECIAL_TOKENS)
    write_run(root / "bart", BartConfig.model_validate(sizes | {"output_bias": True}), tokenizer)
    return root


def config(root: Path, model: str, output: str, **changes: Any) -> Seq2SeqConfig:
    fields: dict[str, Any] = {
        "output": root / output,
        "model": root / model,
        "data": {"train_texts": str(root / "pairs.jsonl"), "source_field": "src", "max_target_tokens": 16},
        "generation": {"num_beams": 2, "max_new_tokens": 8},
        "training": {"duration": "8 epochs", "batch_size": 16},
        "optimizer": {"lr": 1e-2, "schedule": "linear", "warmup": "4 steps"},
    }
    for key, value in changes.items():
        section, _, name = key.rpartition("__")
        (fields[section] if section else fields)[name] = value
    return Seq2SeqConfig.model_validate(fields)


def train(root: Path, model: str, output: str, **changes: Any) -> TaskResult:
    result = run_task(config(root, model, output, **changes), lambda line: None)
    assert result is not None
    return result


def written_by_transformers(folder: Path, sources: list[str], auto_class: str) -> list[str]:
    """What a reader gets who knows transformers alone, several texts at a time."""
    import transformers

    model = getattr(transformers, auto_class).from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(sources, return_tensors="pt", padding=True, truncation=True)
    rows = model.generate(**inputs)
    begin = 0 if model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
    return tokenizer.batch_decode(rows[:, begin:], skip_special_tokens=True)


def predictions(folder: Path, part: str = "test") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"predictions-{part}.jsonl").open()]


def test_a_decoder_learns_to_go_on_from_a_prompt(root: Path) -> None:
    prompt = {"prompt": "Read {source}. Say: ", "generation__at_validation": True, "training__select_by": "chrf"}
    result = train(root, "gpt", "gpt-out", **prompt, training__duration="4 epochs", training__evaluate_every="2 epochs")
    figures, folder = result.test["fine-tuned"], root / "gpt-out"
    assert figures["exact_match"] > 80 > 20 > result.test["the source itself"]["exact_match"]
    assert figures["loss"] < 0.5 and figures["token_accuracy"] > 0.9
    best = max(row.get("validation_chrf", 0.0) for row in result.record["history"])
    assert result.systems["validation"]["fine-tuned"]["chrf"] == pytest.approx(best)
    told = predictions(folder)
    asked = [f"Read {row['source']}. Say: " for row in told]
    assert written_by_transformers(folder, asked, "AutoModelForCausalLM") == [row["predicted"] for row in told]
    assert json.loads((folder / "seq2seq.json").read_text())["test"]["fine-tuned"] == figures
    assert "nrefs:1" in figures["signatures"]["bleu"] and "tok:13a" in figures["signatures"]["bleu"]


def test_only_the_target_carries_loss(root: Path, tokenizer: Tokenizer) -> None:
    """The loss of an example is that of its target's tokens, end included, by hand and by transformers."""
    from finetune.tasks.seq2seq import TextPair

    pairs = [TextPair("a", "the class", "it raises", "a"), TextPair("b", "a value of this", "it returns x", "b")]
    end, cpu = tokenizer.role("end_of_document"), torch.device("cpu")
    for name in ("gpt", "t5", "bart"):
        task = Seq2SeqTask(config(root, name, "none"))
        pretrained = read_pretrained(root / name)
        part, network = task.encode(pretrained, pairs), task.network(pretrained)
        losses = task.losses(network, part, [1, 0], cpu)
        closing = tokenizer.role("separator") if name == "bart" else end
        assert [row[-1] for row in part.targets] == [closing] * 2
        for number, loss in zip((1, 0), losses.tolist()):
            source, target = part.sources[number], part.targets[number]
            if name == "gpt":
                logits = network(input_ids=torch.tensor([source + target])).logits[0].log_softmax(-1)
                by_hand = -sum(logits[len(source) - 1 + n, token] for n, token in enumerate(target))
                assert source == tokenizer.encode(pairs[number].source + "\n")
            else:
                given = {"input_ids": torch.tensor([source]), "labels": torch.tensor([target])}
                by_hand = network(**given).loss * len(target)
            assert loss == pytest.approx(float(by_hand), rel=1e-4) and part.weights[number] == len(target)


def test_label_smoothing_and_r_drop_count_the_tokens_of_targets(root: Path) -> None:
    """The same by torch on the logits of the targets alone; two passes without dropout do not diverge."""
    from torch.nn.functional import cross_entropy

    from finetune.label_losses import example_losses
    from finetune.tasks.base_config import TaskTraining
    from finetune.tasks.seq2seq import TextPair
    from finetune.tasks.sequence_pairs import target_logits

    pairs = [TextPair("a", "the class", "it raises", "a"), TextPair("b", "a value of this", "it returns x y", "b")]
    cpu = torch.device("cpu")
    for name in ("gpt", "t5"):
        task = Seq2SeqTask(config(root, name, "none"))
        pretrained = read_pretrained(root / name)
        part, network = task.encode(pretrained, pairs), task.network(pretrained)
        given = network, part, [1, 0], cpu
        logits_BTV, labels_BT = target_logits(*given)
        by_torch_BT = cross_entropy(logits_BTV.transpose(1, 2), labels_BT, reduction="none", label_smoothing=0.2)
        smoothed = example_losses(task, TaskTraining(label_smoothing=0.2))(*given)
        assert torch.allclose(smoothed, by_torch_BT.sum(1), rtol=1e-4)
        assert torch.allclose(example_losses(task, TaskTraining(r_drop=3.0))(*given), task.losses(*given), rtol=1e-4)
        network.train()
        for module in network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        if name == "t5":  # the Llama has no dropout beside that of its attention
            torch.manual_seed(1)
            one = example_losses(task, TaskTraining(r_drop=1.0))(*given)
            torch.manual_seed(1)
            two = example_losses(task, TaskTraining(r_drop=2.0))(*given)
            assert bool((two > one + 1e-3).all())


def test_an_encoder_decoder_is_moved_where_it_looks_up(root: Path) -> None:
    """Its encoder and its decoder look up in modules of their own; the radius is that of both together."""
    from finetune.adversarial import InputPerturbation
    from finetune.tasks.base_config import TaskTraining
    from finetune.tasks.seq2seq import TextPair

    pairs = [TextPair("a", "the class", "it raises", "a"), TextPair("b", "a value of this", "it returns x y", "b")]
    for name in ("t5", "bart"):
        task = Seq2SeqTask(config(root, name, "none"))
        pretrained = read_pretrained(root / name)
        part, network = task.encode(pretrained, pairs), task.network(pretrained)
        perturbation = InputPerturbation(network, TaskTraining(adversarial="fgm", adversarial_radius=0.3))

        def compute(model: Any = network, task: Any = task, part: Any = part) -> torch.Tensor:
            losses_B: torch.Tensor = task.losses(model, part, [0, 1], torch.device("cpu"))
            return losses_B.sum()

        losses = []
        for loss in perturbation.passes(compute):
            loss.backward()
            losses.append(float(loss))
            deltas = [delta.detach() for delta in perturbation._deltas]
        assert len(deltas) == 2 and all(delta.any() for delta in deltas) and losses[1] > losses[0] + 1e-3
        together_B = torch.stack([delta.flatten(1).norm(dim=1) for delta in deltas]).norm(dim=0)
        assert torch.allclose(together_B, torch.tensor(0.3))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_encoder_decoder_learns_and_is_read_by_transformers(root: Path, name: str) -> None:
    from safetensors.torch import load_file

    result = train(
        root, name, f"{name}-out", baselines=["scratch"] if name == "t5" else [], training__duration="12 epochs"
    )
    figures, folder = result.test["fine-tuned"], root / f"{name}-out"
    assert figures["exact_match"] > 60
    assert name != "t5" or result.test["from scratch"]["exact_match"] > 50
    told = predictions(folder)
    sources = [row["source"] for row in told]
    assert written_by_transformers(folder, sources, "AutoModelForSeq2SeqLM") == [row["predicted"] for row in told]
    if name == "bart":
        saved, before = load_file(folder / "model.safetensors"), read_pretrained(root / name).tensors
        assert (
            torch.equal(saved["final_logits_bias"], before["final_logits_bias"]) and before["final_logits_bias"].any()
        )
    # An export of another project's is read by what its tokenizer's plain call puts around a text.
    again = Seq2SeqTask(config(root, name, "none"))
    pair = again.read()["test"][:1]
    first, second = (again.encode(read_pretrained(place), pair) for place in (root / name, folder))
    assert first.sources == second.sources and first.targets == second.targets


def on_rank(root: str, output: str, changes: dict[str, Any]) -> dict[str, Any]:
    result = run_task(config(Path(root), "t5", output, **changes), lambda line: None)
    return result.record if result is not None else {}


@pytest.mark.slow
def test_two_ranks_weigh_tokens_as_one_does(root: Path) -> None:
    changes = {"training__duration": "5 steps", "training__log_interval": 1, "optimizer__lr": 1e-3}
    found = []
    for output, world_size, more in (
        ("one", 1, {}),
        ("two", 2, {"training__zero_stage": 3, "training__micro_batch_size": 4}),
    ):
        given = (str(root), output, changes | more)
        preload = ("deepspeed", "transformers")
        told = {"process_group": False, "preload": preload, "timeout_s": 600.0}
        found.append(run_ranks(on_rank, world_size, *given, **told)[0])
    one, two = found
    assert two["ran"]["world_size"] == 2 and two["ran"]["zero_stage"] == 3
    for mine, theirs in zip(two["history"], one["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4)


def test_long_sources_lose_their_end_and_keep_the_prompt(root: Path, tokenizer: Tokenizer) -> None:
    from finetune.tasks.seq2seq import TextPair

    task = Seq2SeqTask(config(root, "gpt", "none", prompt="Read {source} now:", data__max_source_tokens=14))
    long = "the class of this object is a module " * 3
    part = task.encode(read_pretrained(root / "gpt"), [TextPair("a", long, "x " * 40, "a")])
    text = tokenizer.decode(part.sources[0])
    assert len(part.sources[0]) <= 14 and text.startswith("Read the class") and text.endswith(" now:")
    assert (part.cut_sources, part.cut_targets) == (1, 1)
    assert len(part.targets[0]) == 16 and tokenizer.role("end_of_document") not in part.targets[0]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"prompt": "Read"}, "expected a text with {source} in it once"),
        ({"training__select_by": "bleu"}, "generation.at_validation=true"),
        ({"generation": {"num_beams": 1, "length_penalty": 2.0}}, "which only beams read"),
        ({"generation__at_validation": True, "training__zero_stage": 3}, "does not work with training.zero_stage=3"),
    ],
)
def test_contradictions_are_refused(root: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named.replace("{", r"\{")):
        config(root, "gpt", "none", **changes)


def test_what_cannot_be_read_or_written_is_told(root: Path, tmp_path: Path) -> None:
    rows = [{"source": f"a {n}", "target": "b"} for n in range(20)]
    bad = [{"source": "a"}, {"source": "", "target": "b"}, {"source": "c", "target": 3}, {"source": None}]
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *bad]))
    given: dict[str, Any] = {"data__train_texts": str(path), "data__source_field": "source"}
    with pytest.raises(DataError, match=r"line 24: its field 'source' holds NoneType"):
        Seq2SeqTask(config(root, "gpt", "none", **given)).read()
    with pytest.raises(DataError, match=r"4 records cannot be used"):
        Seq2SeqTask(config(root, "gpt", "none", **given, data__max_malformed_share=0.1)).read()
    given["data__max_malformed_share"] = 0.2
    task = Seq2SeqTask(config(root, "gpt", "none", **given))
    parts = task.read()
    assert sum(map(len, parts.values())) == 20 and task.facts()["malformed"]["train"]["count"] == 4
    assert not {pair.source for pair in parts["test"]} & {pair.source for pair in parts["train"]}
    with pytest.raises(DataError, match="names, too"):
        Seq2SeqTask(config(root, "gpt", "none", **given, data__test_texts=str(path))).read()
    long = config(root, "bart", "none", generation__max_new_tokens=100)
    with pytest.raises(ConfigError, match=r"max_new_tokens: is 100\n.*at most \d+, the context"):
        Seq2SeqTask(long).encode(read_pretrained(root / "bart"), [])
    with pytest.raises(ConfigError, match="leaves -6 tokens of the context"):
        Seq2SeqTask(config(root, "gpt", "none", data__max_target_tokens=70)).encode(read_pretrained(root / "gpt"), [])
