from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
import torch
from faked_layouts import SMALL_GPT, FakeLayout, assert_shards_equal, random_state, save_all_ranks, shards_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from configs.errors import CheckpointError
from pretrain.checkpoint.loader import load_checkpoint
from pretrain.checkpoint.manifest import Manifest, ManifestProblem, Part, hash_hex
from pretrain.checkpoint.part_files import MAX_OPEN_FILES
from pretrain.checkpoint.reader import CheckpointReader, read_metadata
from tests.entry_process import run_entry

ROOT = Path(__file__).resolve().parents[3]

LAYOUT = FakeLayout(tensor=2, pipeline=1, data=2, zero=1)
METADATA = {
    "step": 5,
    "consumed_samples": 1234,
    "layout": {"zero": 1, "tensor": 2},
    "bessemer_version": "0.1.0",
    "model": {"num_layers": 4},
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    return save_all_ranks(root, 5, LAYOUT, random_state(SMALL_GPT, 3), metadata=METADATA)


@pytest.fixture
def copy(sound, tmp_path) -> Path:
    import shutil

    return Path(shutil.copytree(sound, tmp_path / "checkpoints" / sound.name))


def rewrite_part(path: Path, change) -> None:
    """Change a part's manifest and make all hashes fit: what a hostile author could write."""
    part = orjson.loads((path / "rank00000.json").read_bytes())
    change(part)
    data = orjson.dumps(part)
    (path / "rank00000.json").write_bytes(data)
    outer = orjson.loads((path / "manifest.json").read_bytes())
    outer["manifest"]["parts"]["rank00000.json"] = hash_hex(data)
    outer["xxh3"] = hash_hex(orjson.dumps(outer["manifest"]))
    (path / "manifest.json").write_bytes(orjson.dumps(outer))


def test_reads_every_tensor_without_ranks(sound):
    reader = CheckpointReader(sound)
    values = random_state(SMALL_GPT, 3)
    assert reader.metadata == METADATA
    assert sorted(reader.names()) == sorted(p.name for p in SMALL_GPT)
    for parameter in SMALL_GPT:
        assert reader.shape(parameter.name) == parameter.shape
        for state in ("master", "exp_avg", "exp_avg_sq"):
            assert torch.equal(reader.tensor(parameter.name, state), values[state][parameter.name])


@pytest.mark.parametrize("below", ["", "..", "../.."])
def test_a_checkpoint_its_directory_and_its_run_mean_the_same(copy, below):
    assert CheckpointReader(copy / below).path.name == copy.name
    assert read_metadata(copy / below) == METADATA


def test_part_files_are_plain_safetensors(sound):
    tensors = load_file(sound / "rank00000.safetensors")
    values = random_state(SMALL_GPT, 3)
    start = values["exp_avg"]["embedding.word_embeddings.weight"][:12].flatten()
    assert torch.equal(tensors["exp_avg/embedding.word_embeddings.weight"], start)
    header = struct.unpack("<Q", (sound / "rank00000.safetensors").read_bytes()[:8])[0]
    assert (header + 8) % 4096 == 0


@pytest.mark.slow
def test_many_parts_need_few_open_files(tmp_path):
    values = random_state(SMALL_GPT, 3)
    path = save_all_ranks(tmp_path, 1, FakeLayout(data=MAX_OPEN_FILES + 8, zero=3), values)
    reader = CheckpointReader(path)
    name = "decoder.layers.0.mlp.linear_fc1.weight"
    assert torch.equal(reader.tensor(name), values["master"][name])
    assert len(reader.index.files._open) <= MAX_OPEN_FILES


def test_unknown_names_are_told_with_the_nearest(sound):
    reader = CheckpointReader(sound)
    with pytest.raises(CheckpointError, match=r"did you mean: decoder\.final_layernorm\.weight"):
        reader.tensor("decoder.final_layernorm.wieght")
    with pytest.raises(CheckpointError, match="one of master, exp_avg, exp_avg_sq"):
        reader.tensor("decoder.final_layernorm.weight", "momentum")
    with pytest.raises(CheckpointError, match="holds no complete checkpoint"):
        CheckpointReader(Path(__file__).parent)


def test_damage_is_found_in_what_is_read_and_only_there(copy):
    name = "decoder.final_layernorm.weight"
    data = bytearray((copy / "rank00002.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "rank00002.safetensors").write_bytes(data)
    reader = CheckpointReader(copy)
    reader.tensor(name, "master")
    with pytest.raises(CheckpointError, match=f"rank00002.safetensors: exp_avg_sq/{name} was changed"):
        reader.tensor(name, "exp_avg_sq")
    CheckpointReader(copy, verify=False).tensor(name, "exp_avg_sq")


def test_one_process_loads_and_verifies_another_layout(copy):
    shards = shards_of(FakeLayout(), 0, random_state(SMALL_GPT, 99))
    assert load_checkpoint(copy.parent, shards) == METADATA
    assert_shards_equal(shards, shards_of(FakeLayout(), 0, random_state(SMALL_GPT, 3)))
    data = bytearray((copy / "rank00002.safetensors").read_bytes())
    data[-1] ^= 1
    (copy / "rank00002.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=r"rank00002\.safetensors: exp_avg_sq/decoder\.\S+ was changed"):
        load_checkpoint(copy.parent, shards)
    load_checkpoint(copy.parent, shards, verify=False)


HOSTILE = {
    "outside the file": (lambda part: part["tensors"][0]["offsets"].update(master=1 << 40), "does not lie in the file"),
    "before the data": (lambda part: part["tensors"][0]["offsets"].update(master=0), "does not lie in the file"),
    "misaligned": (lambda part: part["tensors"][0]["offsets"].update(master=4097), "does not lie in the file"),
    "no integer": (lambda part: part["tensors"][0]["offsets"].update(master="4096"), "does not lie in the file"),
    "another directory": (lambda part: part.update(file="../../etc/passwd"), "file is"),
    "absolute path": (lambda part: part.update(file="/etc/passwd"), "file is"),
    "huge shape": (lambda part: part["tensors"][0].update(global_shape=[1 << 40, 1 << 40]), "too large"),
    "negative shape": (lambda part: part["tensors"][0].update(global_shape=[-1, 8]), "global_shape is"),
    "shape of text": (lambda part: part["tensors"][0].update(global_shape=["a"]), "global_shape is"),
    "many axes": (lambda part: part["tensors"][0].update(global_shape=[1] * 99), "global_shape is"),
    "rectangle outside": (lambda part: part["tensors"][0].update(rectangles=[[0, 99, 0, 8]]), "do not lie in"),
    "rectangle inside out": (lambda part: part["tensors"][0].update(rectangles=[[5, 2, 0, 8]]), "do not lie in"),
    "rectangle of floats": (lambda part: part["tensors"][0].update(rectangles=[[0.0, 1, 0, 8]]), "rectangles are"),
    "ragged rectangles": (lambda part: part["tensors"][0].update(rectangles=[[0, 1], [0]]), "rectangles are"),
    "huge rectangles": (lambda part: part["tensors"][0].update(rectangles=[[0, 1 << 62, 0, 8]]), "do not lie in"),
    "deep rectangles": (lambda part: part["tensors"][0].update(rectangles=[[[[1]]]]), "rectangles are"),
    "more than the file": (
        lambda part: part["tensors"][0].update(global_shape=[1 << 30, 8], rectangles=[[0, 1 << 30, 0, 8]]),
        "hold more than the file",
    ),
    "covered twice": (lambda part: part["tensors"].append(part["tensors"][0]), "every element"),
    "left out": (lambda part: part["tensors"].pop(0), "every element"),
    "other shape": (lambda part: part["tensors"][0].update(global_shape=[48, 4]), "disagree|do not lie in"),
    "no hash": (lambda part: part["tensors"][0]["xxh3"].pop("exp_avg"), "exp_avg has no hash"),
    "escape codes": (lambda part: part["tensors"][0].update(name="\x1b[2J"), "name is"),
    "no list": (lambda part: part.update(tensors={"a": 1}), "is not a list"),
    "list of numbers": (lambda part: part.update(tensors=[1, 2]), "is not a mapping"),
    "other version": (lambda part: part.update(version=99), "this version reads"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_manifests_are_refused(copy, kind):
    change, message = HOSTILE[kind]
    rewrite_part(copy, change)
    with pytest.raises(CheckpointError, match=message):
        CheckpointReader(copy)


def test_deep_metadata_is_refused(copy):
    deep = b'{"manifest": {"metadata": ' + b"[" * 900 + b"]" * 900 + b'}, "xxh3": "0"}'
    (copy / "manifest.json").write_bytes(deep)
    with pytest.raises(CheckpointError, match="is nested too deeply"):
        read_metadata(copy)


@given(data=st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_garbage_is_no_manifest(data):
    for kind in (Manifest, Part):
        with pytest.raises(ManifestProblem):
            kind.decode(data)


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_in_a_part_is_refused_or_read(sound, data):
    """Replace a random value by random JSON: whatever comes, no other exception."""
    json_values = st.recursive(
        st.none() | st.booleans() | st.integers(-(1 << 80), 1 << 80) | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )
    part = json.loads((sound / "rank00001.json").read_bytes())
    node, key = part, data.draw(st.sampled_from(sorted(part)))
    while isinstance(node[key], list | dict) and node[key] and data.draw(st.integers(0, 4)):
        node = node[key]
        key = data.draw(st.sampled_from(range(len(node)) if isinstance(node, list) else sorted(node)))
    node[key] = data.draw(json_values)
    try:
        Part.decode(json.dumps(part).encode())
    except ManifestProblem:
        return


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_entry(["-m", "pretrain.checkpoint", *arguments], cwd=ROOT, preload=("pretrain.checkpoint.reader",))


def test_inspect_shows_step_layout_and_shapes(sound):
    shown = run_command("inspect", str(sound))
    assert shown.returncode == 0, shown.stderr
    for text in ("step       5", "samples    1,234", "zero 1, tensor 2", "in 4 parts", "24 x 8", "bessemer 0.1.0"):
        assert text in shown.stdout
    as_json = json.loads(run_command("inspect", str(sound), "--json").stdout)
    assert as_json["metadata"] == METADATA
    assert as_json["tensors"]["embedding.word_embeddings.weight"] == [24, 8]


def test_verify_says_what_is_damaged_and_ends_with_status_2(copy):
    sound = run_command("verify", str(copy.parent))
    assert sound.returncode == 0
    assert "step_00000005: sound" in sound.stdout
    data = bytearray((copy / "rank00001.safetensors").read_bytes())
    data[5000] ^= 1
    (copy / "rank00001.safetensors").write_bytes(data)
    damaged = run_command("verify", str(copy.parent))
    assert damaged.returncode == 2
    assert "step_00000005: DAMAGED" in damaged.stdout
    assert "rank00001.safetensors: master/" in damaged.stdout
    (copy / "manifest.json").unlink()
    without = run_command("verify", str(copy.parent))
    assert without.returncode == 2 and "step_00000005: DAMAGED\n  manifest.json: " in without.stdout
    nothing = run_command("verify", str(copy / "nothing"))
    assert nothing.returncode == 2
    assert "does not exist" in nothing.stderr
    assert "Traceback" not in nothing.stderr + damaged.stderr


def test_help_imports_no_torch():
    code = "import sys; import pretrain.checkpoint.__main__, pretrain.checkpoint.writer; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr
