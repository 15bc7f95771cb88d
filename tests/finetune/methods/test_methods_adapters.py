"""Adapters on every kind of task: only they change, merged ones say the same, plain peft loads them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from configs.errors import ConfigError, DataError, UserError
from finetune.pretrained import read_pretrained
from finetune.run_task import TaskResult, run_task
from finetune.tasks.base_config import TaskConfig
from finetune.tasks.prefer_config import PreferConfig
from finetune.tasks.seq2seq_config import Seq2SeqConfig
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from tests.distributed import run_ranks
from tests.finetune.finetune_questions import qa_config, write_squad
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tags import tag_config, tagged, write_conll
from tests.finetune.finetune_texts import WORDS, classify_config, train_on_rank, write_texts
from tests.finetune.finetune_tokenizers import train_tokenizer

SHORT: dict[str, Any] = {
    "duration": "6 steps",
    "batch_size": 16,
    "log_interval": 1,
    "tensorboard": False,
    "evaluate_every": "3 steps",
}
OPTIMIZER: dict[str, Any] = {"lr": 2e-2, "schedule": "constant"}
WITHOUT_SPECIAL_TOKENS = {"config": {"objective": {"name": "span_corruption"}}}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"name": "lora", "r": 4, "dropout": 0.1},
    "rslora": {"name": "lora", "r": 4, "rslora": True, "target_modules": "all-linear"},
    "dora": {"name": "lora", "r": 4, "dora": True},
    "pissa": {"name": "lora", "r": 4, "start": "pissa"},
    "ia3": {"name": "ia3"},
    "prefix": {"name": "prefix", "virtual_tokens": 4},
    "prompt": {"name": "prompt", "virtual_tokens": 4},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("methods")
    tokenizer = train_tokenizer(root / "tok", control_symbols=["<|mask|>", "<|cls|>", "<|sep|>"])
    write_run(root / "run", llama(tokenizer), tokenizer)
    sizes: dict[str, Any] = {"num_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
    sizes |= {"seq_length": 64, "vocab_multiple": 64, "vocab_size": tokenizer.vocab_size}
    t5 = T5Config.model_validate(sizes | {"decoder_seq_length": 40})
    write_run(root / "t5", t5, tokenizer, metadata=WITHOUT_SPECIAL_TOKENS)
    write_run(root / "bert", BertConfig.model_validate(sizes | {"pooler": False}), tokenizer)
    write_run(root / "pooled", BertConfig.model_validate(sizes), tokenizer)
    write_texts(root / "texts.jsonl", 120)
    write_conll(root / "texts.conll", tagged(80))
    with (root / "pairs.jsonl").open("w") as file:
        for number in range(60):
            word = list(WORDS)[number % 3]
            file.write(json.dumps({"id": f"n{number}", "src": f"the {word} of {number}", "target": f"a {word}"}) + "\n")
    return root


def settings(root: Path, kind: str, output: str, method: dict[str, Any], **changes: Any) -> TaskConfig:
    fields = {"training": SHORT, "optimizer": OPTIMIZER, "method": method} | changes
    if kind == "tag":
        return tag_config(root, output, **fields)
    if kind in ("seq2seq", "gpt"):
        more: dict[str, Any] = {
            "output": root / output,
            "model": root / ("t5" if kind == "seq2seq" else "run"),
            "data": {"train_texts": str(root / "pairs.jsonl"), "source_field": "src", "max_target_tokens": 16},
            "generation": {"num_beams": 2, "max_new_tokens": 4},
        }
        return Seq2SeqConfig.model_validate(more | fields)
    if kind in ("bert", "pooled"):
        fields["model"] = root / kind
    return classify_config(root, output, baselines=[], **fields)


def train(config: TaskConfig) -> TaskResult:
    result = run_task(config, lambda line: None)
    assert result is not None
    return result


def changed(root: Path, kind: str, folder: Path) -> set[str]:
    """Names of the weights of a saved model that are not those that were pretrained."""
    weights = load_file(folder / "model.safetensors")
    name = {"seq2seq": "t5", "bert": "bert", "pooled": "pooled"}.get(kind, "run")
    pretrained = read_pretrained(root / name).tensors
    return {key for key in weights if key not in pretrained or not torch.equal(weights[key], pretrained[key])}


ADAPTED: dict[str, dict[str, tuple[str, ...]]] = {
    "lora": {"classify": ("q_proj", "v_proj"), "bert": ("query", "value"), "seq2seq": ("q", "v")},
    "ia3": {
        "classify": ("k_proj", "v_proj", "down_proj"),
        "bert": ("key", "value", "output.dense"),
        "seq2seq": ("k", "v", "wo"),
    },
}
"""Ends of the names of the modules that a method changes, by the family of the model."""
HEADS: dict[str, set[str]] = {
    "classify": {"score"},
    "tag": {"score"},
    "bert": {"classifier", "bert.pooler"},
    "pooled": {"classifier"},
    "seq2seq": set(),
    "gpt": set(),
}
"""New parts of the network of each kind: of a BERT without a pooler, that, too; `gpt` is seq2seq with a decoder."""


def check_merged(root: Path, kind: str, method: str, more: str = "") -> None:
    folder = root / f"{kind}-{method}{more}"
    result = train(settings(root, kind, folder.name, METHODS[method]))
    said = result.record["method"]
    assert said["name"] == METHODS[method]["name"]
    assert 0 < said["trained_parameters"] < said["total_parameters"] / 5
    assert said["merged_difference"] < 1e-4 and said["base_difference"] > 1e-2
    modules = {name.rpartition(".")[0] for name in changed(root, kind, folder)}
    if method != "rslora":  # that adapts all
        family = {"tag": "classify", "gpt": "classify", "pooled": "bert"}.get(kind, kind)
        ends = ADAPTED["ia3" if method == "ia3" else "lora"][family]
        body = {name for name in modules if not any(name.startswith(head) for head in HEADS[kind])}
        assert body and all(name.endswith(ends) for name in body), body
        assert {end for end in ends if any(name.endswith(end) for name in body)} == set(ends)
    assert all(any(name.startswith(head) for name in modules) for head in HEADS[kind])
    # In peft's own format it says the same, on the model that it was trained from.
    from peft import PeftModel

    task, pretrained = result.task, read_pretrained(settings(root, kind, "any", {"name": "full"}).model)
    loaded = PeftModel.from_pretrained(task.network(pretrained), folder / "adapter").eval()
    saved: Any = task.load(folder)
    tokens = torch.randint(4, 60, (3, 7))
    given = {"input_ids": tokens} | ({"decoder_input_ids": tokens[:, :4]} if kind == "seq2seq" else {})
    with torch.no_grad():
        ours, theirs, base = (model(**given).logits for model in (saved, loaded, task.network(pretrained).eval()))
    assert torch.allclose(ours, theirs, atol=1e-4), float((ours - theirs).abs().max())
    assert (ours - base).abs().max() > 1e-2


def check_alone(root: Path, kind: str, method: str) -> None:
    folder = root / f"{kind}-{method}"
    result = train(settings(root, kind, folder.name, METHODS[method]))
    said = result.record["method"]
    assert "merged_difference" not in said and 0 < said["trained_parameters"] < said["total_parameters"] / 5
    assert not (folder / "model.safetensors").exists() and not (folder / "config.json").exists()
    names = set(load_file(folder / "adapter" / "adapter_model.safetensors"))
    heads = {name.removeprefix("base_model.") for name in names if name != "prompt_embeddings"}
    assert "prompt_embeddings" in names and all(name.rpartition(".")[0] in HEADS[kind] for name in heads)
    assert (folder / "adapter" / "tokenizer_config.json").is_file()
    assert not list((folder / "adapter").glob("model*"))
    with pytest.raises(DataError, match="trained an adapter that cannot be merged, in adapter/"):
        read_pretrained(folder)


def refused_when_read(root: Path, kind: str, method: str) -> None:
    with pytest.raises(ValidationError, match="vectors before the text would move the places"):
        settings(root, kind, f"{kind}-{method}", METHODS[method])


def refused_before_training(root: Path, kind: str, method: str) -> None:
    reason = {"classify": "depends on the padding", "bert": "its new bert.pooler would not be trained"}[kind]
    with pytest.raises(ConfigError, match=rf"method\.name: is {method}.*{reason}"):
        train(settings(root, kind, f"{kind}-{method}", METHODS[method]))
    assert not (root / f"{kind}-{method}").exists() and not (root / f"{kind}-{method}.training").exists()


MERGED = {(kind, name): check_merged for kind in HEADS for name in METHODS if METHODS[name]["name"] in ("lora", "ia3")}
ALONE = {(kind, name): check_alone for kind in ("seq2seq", "gpt", "pooled") for name in ("prefix", "prompt")}
TABLE: dict[tuple[str, str], Callable[[Path, str, str], None]] = {
    **MERGED,
    **ALONE,
    ("classify", "prefix"): check_alone,
    ("classify", "prompt"): refused_before_training,
    ("bert", "prefix"): refused_before_training,
    ("bert", "prompt"): refused_before_training,
    ("tag", "prefix"): refused_when_read,
    ("tag", "prompt"): refused_when_read,
}
"""Every method on every kind of task and model: it runs, or is refused before the training."""


def test_the_table_has_every_pair() -> None:
    assert set(TABLE) == {(kind, method) for kind in HEADS for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "method"), TABLE)
def test_every_method_on_every_task(root: Path, kind: str, method: str) -> None:
    TABLE[kind, method](root, kind, method)


def test_a_merge_that_says_other_things_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the merge of the cheapest pair, in the fast tier."""
    from peft.tuners.lora.layer import Linear

    check_merged(root, "classify", "lora", "-fast")
    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, adapter: 1.01 * right(self, adapter))
    with pytest.raises(UserError, match="logits of the merged model differ from those of the adapted one"):
        train(settings(root, "classify", "wrong", METHODS["lora"]))
    assert not (root / "wrong").exists()


@pytest.mark.parametrize(
    ("method", "changes", "reason"),
    [
        ({"name": "lora"}, {"training": SHORT | {"freeze_layers": 1}}, r"training\.freeze_layers is 1"),
        ({"name": "ia3"}, {"training": SHORT | {"unfreeze_every": "1 steps"}}, r"training\.unfreeze_every is 1 steps"),
        ({"name": "lora"}, {"optimizer": OPTIMIZER | {"layer_decay": 0.9}}, r"optimizer\.layer_decay is 0\.9"),
        ({"name": "lora", "dora": True}, {"training": SHORT | {"zero_stage": 3}}, r"training\.zero_stage is 3"),
        ({"name": "lora", "dora": True, "start": "pissa"}, {}, "each wants its own start"),
        ({"name": "prompt"}, {"training": SHORT | {"adversarial": "fgm"}}, r"training\.adversarial is fgm"),
        ({"name": "ia3", "target_modules": "all-linear"}, {}, "IA3 scales keys and values"),
        ({"name": "ia3", "target_modules": ["k"], "feedforward_modules": ["v"]}, {}, "a part of them"),
        ({"name": "lorra"}, {}, "did you mean lora"),
    ],
)
def test_contradictions_are_refused_when_they_are_read(
    tmp_path: Path, method: dict[str, Any], changes: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        settings(tmp_path, "classify", "out", method, **changes)


def test_modules_that_the_network_has_not_are_refused(root: Path) -> None:
    method = {"name": "lora", "target_modules": ["no_such_proj"]}
    with pytest.raises(ConfigError, match=r"method\.name: is lora, which does not fit .*No modules were targeted"):
        train(settings(root, "classify", "refused", method))


RANKS: dict[str, Any] = {
    "baselines": [],
    "training": SHORT | {"micro_batch_size": 4, "adversarial": "fgm"},
    "optimizer": OPTIMIZER,
    "method": METHODS["lora"],
}


@pytest.mark.slow
def test_two_ranks_at_stage_3_equal_one_process(root: Path) -> None:
    """With dropout in the adapter, and the input embeddings moved, which are frozen."""
    records = []
    for world_size, stage in ((1, 0), (2, 3)):
        fields = RANKS | {"training": RANKS["training"] | {"zero_stage": stage}}
        found = run_ranks(
            train_on_rank, world_size, str(root), f"ranks-{stage}", fields, process_group=False,
            preload=("deepspeed", "transformers", "peft"), timeout_s=300,
        )  # fmt: skip
        records.append(found[0])
    one, other = records
    assert [record["ran"]["zero_stage"] for record in records] == [0, 3]
    assert len(one["history"]) == 8 and one["history"][0]["loss"] != one["history"][-1].get("loss")
    for mine, theirs in zip(other["history"], one["history"], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    for key in ("trained_parameters", "total_parameters"):
        assert one["method"][key] == other["method"][key]
    assert other["method"]["merged_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pissa", "prefix"])
def test_a_stopped_training_goes_on_bitwise(root: Path, method: str) -> None:
    import os
    import signal

    said: list[str] = []

    def log(line: str) -> None:
        said.append(line)
        if line.startswith("step     2/6"):
            os.kill(os.getpid(), signal.SIGUSR2)

    straight = train(settings(root, "gpt", f"straight-{method}", METHODS[method]))
    with pytest.raises(SystemExit):
        run_task(settings(root, "gpt", f"stopped-{method}", METHODS[method]), log)
    checkpoint = next((root / f"stopped-{method}.training" / "fine-tuned").glob("step_*"))
    held = sum(path.stat().st_size for path in checkpoint.rglob("*.safetensors"))
    # Of each trained weight itself, two moments and the best one; the frozen ones are not in it.
    assert held < 4 * 4 * straight.record["method"]["trained_parameters"] + 20_000
    assert held < 4 * straight.record["method"]["total_parameters"]
    result = run_task(settings(root, "gpt", f"stopped-{method}", METHODS[method]), said.append)
    assert result is not None and any(line.startswith("resumed at step") for line in said)
    file = Path("adapter") / "adapter_model.safetensors"
    assert (root / f"straight-{method}" / file).read_bytes() == (root / f"stopped-{method}" / file).read_bytes()
    assert result.record["history"] == straight.record["history"]


@pytest.mark.slow
def test_questions_and_preferences_take_adapters(root: Path) -> None:
    write_squad(root / "squad.json")
    with (root / "preferences.jsonl").open("w") as file:
        for number in range(60):
            record = {"id": f"n{number}", "prompt": f"the {number} ", "chosen": "returns value", "rejected": "of file"}
            file.write(json.dumps(record) + "\n")
    fields = {"training": SHORT | {"precision": "bf16", "zero_stage": 2}, "optimizer": OPTIMIZER}
    questions = qa_config(root, "qa", model=root / "bert", method=METHODS["lora"], **fields)
    preferred = PreferConfig.model_validate(
        {
            "output": root / "prefer",
            "model": root / "run",
            "data": {"train_texts": str(root / "preferences.jsonl"), "max_completion_tokens": 16},
            "method": METHODS["lora"],
            **fields,
        }
    )
    expected: list[tuple[str, TaskConfig, set[str]]] = [
        ("run", preferred, {"q_proj", "v_proj"}),
        ("bert", questions, {"query", "value", "qa_outputs"}),
    ]
    for kind, config, ends in expected:
        said = train(config).record["method"]
        assert said["merged_difference"] < 1e-4 and said["base_difference"] > 1e-2
        names = changed(root, kind, config.output)
        assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == ends


@pytest.mark.slow
def test_several_seeds_of_an_adapter_alone(root: Path) -> None:
    """Their ensemble reads the adapters back."""
    from finetune.predictors import load_predictor
    from finetune.seeds import run_seeds

    config = settings(root, "classify", "seeds", METHODS["prefix"], seeds=[1, 2])
    result = run_seeds(config, lambda line: None)
    assert result is not None and "ensemble" in result.parts["test"]
    files = [root / "seeds" / f"seed-{seed}" / "adapter" / "adapter_model.safetensors" for seed in (1, 2)]
    assert files[0].read_bytes() != files[1].read_bytes()
    with pytest.raises(DataError, match="holds no whole model"):
        load_predictor(root / "seeds" / "seed-1")
    full = json.loads((root / "seeds" / "seed-1" / "adapter" / "adapter_config.json").read_text())
    assert full["peft_type"] == "PREFIX_TUNING" and full["base_model_name_or_path"] == str(root / "run")
