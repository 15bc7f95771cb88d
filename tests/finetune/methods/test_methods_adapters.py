"""Adapters on every kind of task: only they change, merged ones say the same, plain peft loads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from configs.errors import ConfigError, DataError, UserError
from finetune.methods.chosen import adapter_of
from finetune.pretrained import read_pretrained
from tests.finetune.methods.adapted_runs import METHODS, OPTIMIZER, SHORT, changed, settings, train

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


def check_bottleneck(root: Path, kind: str, method: str) -> None:
    folder = root / f"{kind}-{method}"
    config = settings(root, kind, folder.name, METHODS[method])
    result = train(config)
    said = result.record["method"]
    assert "merged_difference" not in said and 0 < said["trained_parameters"] < said["total_parameters"] / 5
    assert not (folder / "model.safetensors").exists() and not list((folder / "adapter").glob("model*"))
    saved = load_file(folder / "adapter" / "adapter_model.safetensors")
    heads = {name for name in saved if ".bottleneck." not in name}
    assert all(any(name.startswith(head) for name in heads) for head in HEADS[kind])
    assert sum(tensor.numel() for tensor in saved.values()) == said["trained_parameters"]
    # Read back it says other things than without its bottlenecks, and their layers are as they were.
    pretrained = read_pretrained(config.model)
    network = result.task.network(pretrained)
    adapter = adapter_of(config)
    assert adapter is not None
    plain = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    tokens = torch.randint(4, 60, (3, 7))
    given = {"input_ids": tokens} | ({"decoder_input_ids": tokens[:, :4]} if kind == "seq2seq" else {})
    with torch.no_grad():
        before = network.eval()(**given).logits
        read = adapter.read_back(network, folder / "adapter")
        after = read(**given).logits
    assert (before - after).abs().max() > 1e-2
    held = dict(read.named_parameters())
    assert all(torch.equal(held[name], plain[name]) for name in plain if name not in saved)
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
    **{(kind, "houlsby"): check_bottleneck for kind in HEADS},
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
