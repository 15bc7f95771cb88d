"""Options of the ground, on a whole training: what they leave alone, what they change, and that ranks do not matter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import ConfigError
from finetune.run_task import run_task
from tests.distributed import run_ranks
from tests.finetune.finetune_texts import classify_config, prepare, train_on_rank

STEPS: dict[str, Any] = {
    "baselines": [],
    "training__tensorboard": False,
    "training__evaluate_every": "8 steps",
    "optimizer__warmup": "0 steps",
    "optimizer__schedule": "constant",
}
BODY = ("model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("regularisers")
    prepare(root)
    return root


def trained(root: Path, name: str, steps: int, **changes: Any) -> dict[str, torch.Tensor]:
    """Weights of the embeddings, the lower and the upper layer, and of the new head, after a few steps."""
    fields = STEPS | {"training__duration": f"{steps} steps"} | changes
    assert run_task(classify_config(root, name, **fields), lambda line: None) is not None
    weights = load_file(root / name / "model.safetensors")
    return {key: weights[key] for key in (*BODY, "score.weight")}


@pytest.fixture(scope="module")
def pretrained(root: Path) -> dict[str, torch.Tensor]:
    from pretrain.checkpoint.model_checkpoint import open_checkpoint
    from pretrain.models.huggingface.weights import to_hf

    source = open_checkpoint(root / "run")
    return {key: tensor for key, tensor in to_hf(source.tensors, source.model) if key in BODY}


def unchanged(weights: dict[str, torch.Tensor], pretrained: dict[str, torch.Tensor]) -> list[bool]:
    return [torch.equal(weights[key], pretrained[key]) for key in BODY]


def test_layers_are_frozen_and_unfrozen(root: Path, pretrained: Any) -> None:
    frozen = trained(root, "frozen", 2, training__freeze_layers=1, training__zero_stage=2)
    assert unchanged(frozen, pretrained) == [True, True, False]
    # Two steps: the head, then the upper layer, too; 3 more open the lower one.
    fields = {"training__unfreeze_every": "1 steps", "training__zero_stage": 2}
    assert unchanged(trained(root, "unfreezing", 2, **fields), pretrained) == [True, True, False]
    assert unchanged(trained(root, "unfrozen", 4, **fields), pretrained) == [False, False, False]


@pytest.mark.slow
def test_rates_decay_from_layer_to_layer(root: Path, pretrained: Any) -> None:
    sgd = {"optimizer": {"name": "sgd", "momentum": 0, "lr": 0.1, "weight_decay": 0, "clip_grad_norm": 0}}
    even, decayed = (trained(root, f"sgd-{decay}", 1, **sgd, optimizer__layer_decay=decay) for decay in (1.0, 0.5))
    for key, share in zip(BODY, (0.25, 0.5, 1.0)):
        moved = even[key] - pretrained[key]
        assert moved.abs().max() > 1e-5
        assert torch.allclose(decayed[key] - pretrained[key], share * moved, rtol=1e-3, atol=1e-7), key
    assert torch.equal(even["score.weight"], decayed["score.weight"])


@pytest.mark.slow
def test_dropout_reaches_the_model_and_the_ground_seeds_it(root: Path) -> None:
    fields = {"training__dropout": 0.5, "training__log_interval": 1}
    trained(root, "without", 1, training__log_interval=1)
    for name, more in (("with", {}), ("again", {"training__zero_stage": 1})):
        trained(root, name, 1, **fields, **more)
    losses = {}
    for name in ("without", "with", "again"):
        losses[name] = json.loads((root / name / "classify.json").read_text())["history"][0]["loss"]
    assert losses["with"] == losses["again"] != losses["without"]
    assert json.loads((root / "with" / "config.json").read_text())["attention_dropout"] == 0.5


ALL_OPTIONS = {
    "training__batch_size": 24,
    "training__micro_batch_size": 4,
    "training__duration": "8 steps",
    "training__log_interval": 1,
    "training__dropout": 0.1,
    "training__label_smoothing": 0.1,
    "training__r_drop": 1.0,
    "training__adversarial": "pgd",
    "training__unfreeze_every": "2 steps",
    "training__freeze_layers": 0,
    "optimizer__layer_decay": 0.8,
}


@pytest.mark.slow
def test_all_options_on_two_ranks_equal_one(root: Path) -> None:
    """160 texts in batches of 24: in the seventh step one rank has places without an example."""
    records = []
    for world_size, stage in ((1, 0), (2, 3), (2, 2)):
        fields = STEPS | ALL_OPTIONS | {"training__zero_stage": stage}
        found = run_ranks(
            train_on_rank, world_size, str(root), f"all-{stage}", fields, process_group=False,
            preload=("deepspeed", "transformers"), timeout_s=300,
        )  # fmt: skip
        records.append(found[0])
    one = records[0]["history"]
    assert len(one) == 9
    for other in records[1:]:
        for mine, theirs in zip(other["history"], one, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-4, abs=1e-5)
    # Of the same batches without them, losses are others.
    plain = train_on_rank(str(root), "plain", STEPS | dict(list(ALL_OPTIONS.items())[:4]))["history"]
    assert abs(plain[0]["loss"] - one[0]["loss"]) > 1e-3


def test_a_model_without_what_an_option_needs_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"training\.r_drop: is 0\.5, and nothing of LlamaFor\w+ drops out"):
        trained(root, "refused", 1, training__r_drop=0.5)
    monkeypatch.setattr("finetune.dropout._NAMES", ("no_such_rate",))
    with pytest.raises(ConfigError, match=r"training\.dropout: is 0\.2, and the config of llama has no dropout"):
        trained(root, "refused", 1, training__dropout=0.2)
