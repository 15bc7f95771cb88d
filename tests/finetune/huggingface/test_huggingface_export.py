"""Export: what is written, that it is checked, and that nothing is written when the check fails."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
from pathlib import Path

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError, MachineError
from data_prep.tokenizer import Tokenizer, load_tokenizer
from finetune.cli import export_command
from finetune.config import ExportConfig
from finetune.huggingface.export import export
from pretrain.config.sampling import TOKEN_STREAM, SampleCutting
from pretrain.data.history import DataHistory, DataPhase, MixedCorpus
from pretrain.models.huggingface import rotary_decoder
from pretrain.models.huggingface.transformers_model import load_causal
from tests.finetune.finetune_oracle import oracle_logits, oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tok"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "gpt"
    write_run(run_dir, llama(tokenizer), tokenizer)
    return run_dir


def config(run: Path, output: Path, **changes: object) -> ExportConfig:
    return ExportConfig.model_validate({"model": run, "output": output, "sequences": 2} | changes)


def test_the_record_names_everything_that_was_read(tokenizer: Tokenizer, tmp_path: Path) -> None:
    sampling = SampleCutting(TOKEN_STREAM, 64, 1)
    a, b, c = (MixedCorpus(f"hash of {name}", f"corpora/{name}", weight) for name, weight in zip("abc", (3, 1, 1)))
    first = DataPhase(0, 0, 64, sampling, (0.9, 0.1, 0.0), (a, b))
    second = DataPhase(10, 80, 32, sampling, (0.9, 0.05, 0.05), (a, c))
    history = json.loads(json.dumps(DataHistory(7, (first, second)).encode()))
    write_run(tmp_path / "gpt", llama(tokenizer), tokenizer, metadata={"data_history": history})
    record = export(config(tmp_path / "gpt", tmp_path / "out"), oracle_outputs)
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == record
    told = record["data_history"]
    assert [(phase["from_sample"], phase["seq_length"], phase["split"][2]) for phase in told] == [
        (0, 64, 0.0), (80, 32, 0.05),
    ]  # fmt: skip
    read = [[(entry["path"], entry["corpus"], entry["samples"]) for entry in phase["train"]] for phase in told]
    assert read == [
        [("corpora/a", "hash of a", 60), ("corpora/b", "hash of b", 20)],
        [("corpora/a", "hash of a", 60), ("corpora/c", "hash of c", 20)],
    ]


def test_the_averages_of_the_weights_are_exported_where_there_are_some(
    run: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    with pytest.raises(CheckpointError, match=r"keeps no averages(?s:.*)optimizer\.average_decay"):
        export(config(run, tmp_path / "none", weights="average"), oracle_outputs)
    trained = write_run(tmp_path / "plain", llama(tokenizer), tokenizer)
    averages = {name: weight * 0.5 for name, weight in trained.items()}
    write_run(tmp_path / "averaged", llama(tokenizer), tokenizer, trained, averages=averages)
    record = export(config(tmp_path / "averaged", tmp_path / "out", weights="average"), oracle_outputs)
    assert record["weights"] == "average"
    export(config(tmp_path / "plain", tmp_path / "expected"), oracle_outputs)
    found, plain = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "expected"))
    assert all(torch.equal(found[name], plain[name] * 0.5) for name in plain)


def test_an_export_loads_in_transformers_and_computes_the_same(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = tmp_path / "deep" / "export"
    record = export(config(run, out))  # against our megatron-core model
    assert record["logits"]["largest_difference"] < 2e-5 and record["logits"]["sequences"] == 3
    assert json.loads((out / "export.json").read_text()) == record
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pkl")]
    theirs, codec = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    text = "The try statement\n\n  specifies handlers ▁ 日本 😀"
    ids = codec(text, return_tensors="pt")
    assert ids.input_ids[0].tolist() == tokenizer.encode(text) and codec.decode(ids.input_ids[0]) == text
    model = llama(tokenizer)
    from pretrain.checkpoint.model_checkpoint import open_checkpoint

    expected = oracle_logits(model, open_checkpoint(run).tensors, ids.input_ids)[..., : model.vocab_size]
    with torch.no_grad():
        assert (theirs(**ids).logits - expected).abs().max() < 2e-5
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == tokenizer.role("end_of_document")
    assert theirs.config.max_position_embeddings == 64
    assert theirs.num_parameters() == record["parameters"]
    assert json.loads((out / "config.json").read_text())["rope_theta"] == 10000.0
    assert (out / "model.safetensors").stat().st_mode == (out / "config.json").stat().st_mode
    assert "AutoModelForCausalLM" in (out / "README.md").read_text()


def test_bfloat16_in_several_files_is_the_rounded_model(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "export"
    record = export(config(run, out, dtype="bfloat16", max_shard_gb=2e-5), reference=oracle_outputs)
    assert 1e-4 < record["rounding"]["largest_logit_difference"] < 1
    assert len(list(out.glob("model-*-of-*.safetensors"))) > 2
    assert not (out / "model.safetensors").exists()
    exact_out = tmp_path / "exact"
    export(config(run, exact_out, max_shard_gb=2e-5), reference=oracle_outputs)
    rounded, exact = load_causal(out), load_causal(exact_out)
    assert rounded.dtype == torch.bfloat16 and rounded.config.dtype == torch.bfloat16
    for name, tensor in exact.state_dict().items():
        assert torch.equal(rounded.state_dict()[name], tensor.to(torch.bfloat16)), name


def swapped_blocks(count: int):
    split, join = REAL_BLOCKS(count)
    return lambda tensor: tuple(reversed(split(tensor))), join


REAL_BLOCKS = rotary_decoder.blocks


def naive_groups(model):
    groups, size, heads = model.query_groups, model.head_size, model.num_attention_heads
    return lambda packed: packed.split([heads * size, groups * size, groups * size]), lambda parts: torch.cat(
        list(parts)
    )


@pytest.mark.parametrize(
    ("target", "wrong"), [("blocks", swapped_blocks), ("query_groups", naive_groups)], ids=["gate and up", "qkv"]
)
def test_a_faulty_mapping_writes_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, wrong: object
) -> None:
    monkeypatch.setattr(rotary_decoder, target, wrong)
    with pytest.raises(CheckpointError, match=r"logits differ by .*nothing was written"):
        export(config(run, tmp_path / "export"), reference=oracle_outputs)
    assert list(tmp_path.iterdir()) == []


def test_not_a_number_does_not_pass_the_gate(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    broken = tmp_path / "runs" / "gpt"
    model = llama(tokenizer)
    tensors = write_run(broken, model, tokenizer)
    tensors["decoder.final_layernorm.weight"][3] = float("nan")
    write_run(broken, model, tokenizer, tensors, step=30)
    with pytest.raises(CheckpointError, match="differ by inf"):
        export(config(broken, tmp_path / "export"), reference=oracle_outputs)
    assert export(config(broken / "checkpoints" / "step_00000020", tmp_path / "export"), oracle_outputs)["step"] == 20


def test_a_failure_late_leaves_the_earlier_export(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "export"
    export(config(run, out), reference=oracle_outputs)
    before = (out / "export.json").read_text()
    with pytest.raises(DataError, match="exists already"):
        export(config(run, out), reference=oracle_outputs)

    def full_disk(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("finetune.huggingface.export.model_card", full_disk)
        with pytest.raises(MachineError, match="No space left"):
            export(config(run, out, overwrite=True), reference=oracle_outputs)
    assert (out / "export.json").read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["export"]
    export(config(run, out, overwrite=True, dtype="bfloat16"), reference=oracle_outputs)
    assert json.loads((out / "export.json").read_text())["dtype"] == "bfloat16"


def test_sigterm_leaves_nothing_half_written(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*arguments: object) -> torch.Tensor:
        assert len(list(tmp_path.iterdir())) == 1, "the signal must come while the output is being written"
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came to nothing")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        export(config(run, tmp_path / "export"), reference=stopped)
    assert end.value.code == 128 + signal.SIGTERM and list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert capsys.readouterr().err == "stopped by SIGTERM; nothing was written\n"


def test_weights_too_large_for_bfloat16(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pretrain.models.huggingface.logit_check.difference_between", lambda *arguments: float("inf"))
    with pytest.raises(CheckpointError, match="rounded to bfloat16"):
        export(config(run, tmp_path / "export", dtype="bfloat16"), reference=oracle_outputs)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["r 3/e", "e😀", "it's \u2028 \x7f\"\\"])
def test_any_output_can_be_named_and_pasted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[ExportConfig] = []
    logits = {"sequences": 1, "largest_difference": 0.0, "tolerance": 1e-4}
    record = {"architecture": "x", "parameters": 1, "step": 1, "dtype": "float32", "logits": logits}
    monkeypatch.setattr("finetune.huggingface.export.export", lambda config: given.append(config) or record)
    export_command(model=Path("run"), output=tmp_path / name)
    assert given[0].output == tmp_path / name
    following = capsys.readouterr().out.rpartition("next: ")[2]
    assert shlex.split(following)[4:] == ["--model", str(tmp_path / name), "--prompt", "..."]


def test_other_peoples_directories_are_never_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds other things"):
        export(config(run, tmp_path / "home", overwrite=True), reference=oracle_outputs)


@pytest.mark.parametrize("place", ["file/export", "/proc/nowhere/export"])
def test_an_unwritable_output_is_one_message(run: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((MachineError, DataError), match=r"cannot be|not a directory|free"):
        export(config(run, tmp_path / place), reference=oracle_outputs)


def test_too_little_space_is_said_before_any_work(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(MachineError, match="0 MB free"):
        export(config(run, tmp_path / "export"), reference=oracle_outputs)


def test_tokenizer_of_another_run_is_refused(run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    train_tokenizer(tmp_path / "other", vocab_size=400)
    with pytest.raises(DataError, match="not the tokenizer that the model was trained with"):
        export(config(run, tmp_path / "export", tokenizer_dir=tmp_path / "other"), reference=oracle_outputs)


def test_a_missing_tokenizer_names_where_it_was_looked_for(tokenizer: Tokenizer, tmp_path: Path) -> None:
    run = tmp_path / "runs" / "gpt"
    write_run(run, llama(tokenizer), tokenizer)
    shutil.rmtree(run / "tokenizer")
    with pytest.raises(DataError, match=r"corpus/tokenizer.*tokenizer_dir="):
        export(config(run, tmp_path / "export"), reference=oracle_outputs)
    record = export(config(run, tmp_path / "export", tokenizer="none"), reference=oracle_outputs)
    assert record["tokenizer_fingerprint"] is None and not (tmp_path / "export" / "tokenizer.json").exists()


def test_a_tokenizer_without_counterpart_is_refused_or_copied(tmp_path: Path) -> None:
    words = train_tokenizer(tmp_path / "words", "word", vocab_size=700)
    write_run(tmp_path / "run", llama(words), words)
    with pytest.raises(DataError, match="sentencepiece-only"):
        export(config(tmp_path / "run", tmp_path / "export"), reference=oracle_outputs)
    export(config(tmp_path / "run", tmp_path / "export", tokenizer="sentencepiece-only"), reference=oracle_outputs)
    assert load_tokenizer(tmp_path / "export" / "sentencepiece").fingerprint == words.fingerprint
    assert "SentencePieceProcessor" in (tmp_path / "export" / "README.md").read_text()


@pytest.mark.parametrize("what", ["nowhere", "empty", "damaged"])
def test_not_a_usable_checkpoint(run: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / what
    if what == "empty":
        place.mkdir()
    if what == "damaged":
        shutil.copytree(run, place)
        part = next((place / "checkpoints").rglob("*.safetensors"))
        content = bytearray(part.read_bytes())
        content[len(content) // 6] ^= 1  # the weights come before the moments
        part.write_bytes(bytes(content))
    with pytest.raises(CheckpointError, match=what):
        export(config(place, tmp_path / "export"), reference=oracle_outputs)
    assert not (tmp_path / "export").exists()


def test_a_model_without_counterpart_is_refused_before_its_weights_are_read(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write_run(tmp_path / "run", llama(tokenizer, activation="gelu"), tokenizer)
    with pytest.raises(ConfigError, match=r"model\.activation"):
        export(config(tmp_path / "run", tmp_path / "export"), reference=oracle_outputs)


def test_metadata_that_is_not_a_models(tokenizer: Tokenizer, tmp_path: Path) -> None:
    model = llama(tokenizer)
    for number, wrong in enumerate(
        (None, "x", {"num_layers": 2}, model.model_dump(mode="json") | {"vocab_size": None})
    ):
        write_run(tmp_path / str(number), model, tokenizer, metadata={"model": wrong})
        with pytest.raises(CheckpointError, match="model"):
            export(config(tmp_path / str(number), tmp_path / "export"), reference=oracle_outputs)
