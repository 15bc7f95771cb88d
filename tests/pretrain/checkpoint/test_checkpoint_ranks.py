"""Saving and loading by real gloo ranks: layouts, damage, what does not fit."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from faked_layouts import SMALL_GPT, random_state, shards_of
from faked_ranks import FULL, PAIR, empty_shards, expect_error, load_and_compare, run_ranks, save_steps

from configs.errors import ConfigError
from pretrain.checkpoint.directory import step_name
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.reader import CheckpointReader
from tests.pretrain.checkpoint.adamw_states import STATES


@pytest.mark.parametrize("asynchronous", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_saved_by_four_ranks_loaded_by_two(tmp_path, asynchronous):
    names = run_ranks(save_steps, 4, tmp_path, FULL, [10, 20, 30], asynchronous, keep_last=2)
    assert names[0] == [".lock", step_name(20), step_name(30)]
    for metadata in run_ranks(load_and_compare, 2, tmp_path, PAIR, seed=30):
        assert metadata == {"step": 30, "consumed_samples": 240}
    reader = CheckpointReader(tmp_path)
    values = random_state(SMALL_GPT, 30)
    assert reader.step == 30
    for parameter in SMALL_GPT:
        for state in STATES:
            assert torch.equal(reader.tensor(parameter.name, state), values[state][parameter.name])


def flip_byte(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(bytes(data))


def damage_manifest(path: Path) -> None:
    text = (path / "manifest.json").read_text()
    (path / "manifest.json").write_text(text.replace('"consumed_samples": 160', '"consumed_samples": 161'))


DAMAGES = {
    "changed weight": (
        lambda path: flip_byte(path / "rank00001.safetensors", -1),
        "rank00001.safetensors: exp_avg_sq/decoder.final_layernorm.weight was changed",
    ),
    "changed header": (lambda path: flip_byte(path / "rank00000.safetensors", 20), "the header was changed"),
    "truncated": (lambda path: os.truncate(path / "rank00001.safetensors", 5000), "holds 5000 bytes"),
    "part missing": (lambda path: (path / "rank00000.safetensors").unlink(), "rank00000.safetensors: cannot be opened"),
    "part manifest missing": (lambda path: (path / "rank00001.json").unlink(), "rank00001.json: cannot be read"),
    "part manifest changed": (lambda path: flip_byte(path / "rank00001.json", 100), "rank00001.json: was changed"),
    "no manifest": (lambda path: (path / "manifest.json").unlink(), "manifest.json: cannot be read"),
    "manifest garbage": (lambda path: (path / "manifest.json").write_bytes(b"\x80\x04garbage"), "is not JSON"),
    "metadata changed": (damage_manifest, "manifest.json: its content does not match its hash"),
}


def load_after_damage(root: Path) -> dict[str, tuple[dict, str]]:
    """For each damage: load from the directory, then what is damaged by its name."""
    found = {}
    for name in DAMAGES:
        metadata = load_and_compare(root / name, PAIR, seed=10)
        found[name] = metadata, expect_error(load_checkpoint, root / name / step_name(20), empty_shards(PAIR))[1]
    return found


def test_damage_falls_back_to_the_step_before(tmp_path, capsys):
    run_ranks(save_steps, 2, tmp_path / "sound", PAIR, [10, 20], asynchronous=True)
    for name, (change, _) in DAMAGES.items():
        shutil.copytree(tmp_path / "sound", tmp_path / name)
        change(tmp_path / name / step_name(20))
    found = run_ranks(load_after_damage, 2, tmp_path)
    warnings = capsys.readouterr().out
    for name, (_, message) in DAMAGES.items():
        warning = next(line for line in warnings.splitlines() if f"{name}/{step_name(20)} IS DAMAGED" in line)
        assert f"falling back to {step_name(10)}" in warning
        assert message in warning
        for metadata, error in (found[0][name], found[1][name]):
            assert metadata["step"] == 10
            assert message in error, "a damaged checkpoint that is asked for by name must not load"


def load_when_all_are_damaged(root: Path) -> tuple[str, str]:
    return expect_error(load_checkpoint, root, empty_shards(PAIR))


def test_all_damaged_says_what_is_wrong_with_each(tmp_path):
    run_ranks(save_steps, 2, tmp_path, PAIR, [10, 20], asynchronous=True)
    os.truncate(tmp_path / step_name(10) / "rank00000.safetensors", 100)
    (tmp_path / step_name(20) / "rank00001.json").unlink()
    for kind, message in run_ranks(load_when_all_are_damaged, 2, tmp_path):
        assert kind == "CheckpointError"
        assert "step_00000010: rank00000.safetensors: holds 100 bytes" in message
        assert "step_00000020: rank00001.json: cannot be read" in message


def refuse(metadata: dict) -> None:
    if dist.get_rank() == 1:
        raise ConfigError(f"not step {metadata['step']}")


def load_refusals(root: Path) -> list[tuple[str, str]]:
    other = [p for p in SMALL_GPT if "final" not in p.name]
    values = random_state(SMALL_GPT, 1)
    fewer = shards_of(PAIR, dist.get_rank(), values, other)
    longer = [dataclasses.replace(p, shape=(9,)) if "final" in p.name else p for p in SMALL_GPT]
    renamed = [dataclasses.replace(p, name=p.name.replace("mlp", "mpl")) for p in SMALL_GPT]
    found = [
        expect_error(load_checkpoint, root / "nowhere", empty_shards(PAIR)),
        expect_error(load_checkpoint, root, fewer),
    ]
    for parameters in (longer, renamed):
        shards = shards_of(PAIR, dist.get_rank(), random_state(parameters, 1), parameters)
        found.append(expect_error(load_checkpoint, root, shards))
    try:
        load_checkpoint(root, empty_shards(PAIR), check=refuse)
    except ConfigError as error:
        found.append((type(error).__name__, str(error)))
    return found


def test_what_does_not_fit_is_refused_on_every_rank(tmp_path):
    run_ranks(save_steps, 2, tmp_path, PAIR, [10], asynchronous=True)
    for missing, unused, shape, names, refusal in run_ranks(load_refusals, 2, tmp_path):
        assert "nowhere: does not exist" in missing[1]
        assert "holds decoder.final_layernorm.weight, which the model does not have" in unused[1]
        assert "decoder.final_layernorm.weight has shape [8], the model's is [9]" in shape[1]
        assert "has no tensor decoder.layers." in names[1]
        assert "the nearest is decoder.layers." in names[1]
        assert refusal == ("ConfigError", "not step 10")
