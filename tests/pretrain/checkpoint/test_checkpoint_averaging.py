"""The mean of checkpoints: its numbers, what reads it, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from data_prep.storage.publishing import write_whole
from pretrain.checkpoint.averaging import average
from pretrain.checkpoint.index import Index
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.checkpoint.weights_only import refuse_weights_only
from pretrain.models.gpt.config import GPTConfig
from tests.finetune.finetune_oracle import random_tensors
from tests.finetune.finetune_runs import LLAMA, write_run

MODEL = GPTConfig(**LLAMA, seq_length=16, vocab_size=48, vocab_multiple=16)


def runs(folder: Path, count: int) -> list[Path]:
    for number in range(count):
        tensors = random_tensors(MODEL, seed=number)
        write_run(folder / f"run{number}", MODEL, None, tensors, step=10 * (number + 1), rows_of_matrices=True)
    return [folder / f"run{number}" for number in range(count)]


def test_the_mean_is_weighted_and_rounded_once(tmp_path: Path) -> None:
    sources = runs(tmp_path, 3)
    found = average(sources, tmp_path / "mean", [1.0, 1.0, 2.0])
    reader = CheckpointReader(tmp_path / "mean")
    assert found.path == reader.path == tmp_path / "mean" / "checkpoints" / "step_00000030"
    assert found.left_out == ("exp_avg", "exp_avg_sq", "exp_avg_sq_row")
    assert list(found.shares.values()) == [0.25, 0.25, 0.5]
    readers = [CheckpointReader(path) for path in sources]
    for name in readers[0].names():
        a, b, c = (each.tensor(name).double() for each in readers)
        assert torch.equal(reader.tensor(name), (0.25 * a + 0.25 * b + 0.5 * c).float())
        assert reader.states(name) == ("master",)
    assert Index.open(reader.path).find_damage(0) == []
    assert reader.metadata["model"] == readers[2].metadata["model"]
    assert [each["step"] for each in reader.metadata["sources"]] == [10, 20, 30]
    with pytest.raises(CheckpointError, match=r"(?s)holds weights and no states.*start_from="):
        refuse_weights_only(reader.metadata, reader.path)


def test_what_is_no_mean_is_refused(tmp_path: Path) -> None:
    one, two = runs(tmp_path, 2)
    output = tmp_path / "mean"
    with pytest.raises(ConfigError, match=r"1 given(?s:.*)two or more"):
        average([one], output)
    with pytest.raises(ConfigError, match="is given twice"):
        average([one, one / "checkpoints"], output)
    with pytest.raises(ConfigError, match=r"is 1,-1(?s:.*)2 numbers above 0"):
        average([one, two], output, [1, -1])
    other = MODEL.model_copy(update={"rotary_base": 5e5})
    write_run(tmp_path / "other", other, None, random_tensors(MODEL))
    with pytest.raises(CheckpointError, match=r"has model.rotary_base=500000.0, .* has 10000.0"):
        average([one, tmp_path / "other"], output)
    # What no weight depends on may differ, and a key that is younger than a checkpoint has its default.
    dropping = MODEL.model_copy(update={"hidden_dropout": 0.1, "attention_dropout": 0.2, "init_cutoff": 3.0})
    older = {key: value for key, value in dropping.model_dump(mode="json").items() if key != "logit_softcap"}
    write_run(tmp_path / "older", dropping, None, metadata={"model": older})
    average([one, tmp_path / "older"], tmp_path / "other-mean")
    write_run(tmp_path / "words", MODEL, None, metadata={"tokenizer_fingerprint": "abc"})
    with pytest.raises(CheckpointError, match="has the tokenizer abc"):
        average([one, tmp_path / "words"], output)
    output.mkdir()
    write_whole(output / "notes.txt", b"mine")
    with pytest.raises(DataError, match="mean"):
        average([one, two], output, overwrite=True)
    assert (output / "notes.txt").read_bytes() == b"mine"


def test_a_damaged_source_leaves_nothing_behind(tmp_path: Path) -> None:
    sources = runs(tmp_path, 2)
    (part,) = sources[1].glob("checkpoints/*/*.safetensors")
    content = bytearray(part.read_bytes())
    content[len(content) // 3 - 40] ^= 1  # within the weights, which come first
    part.write_bytes(content)
    with pytest.raises(CheckpointError, match="was changed"):
        average(sources, tmp_path / "mean")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run0", "run1"]
