"""An adapter trained on conversations in several layouts: resumed, exported merged and in peft's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from configs.errors import CheckpointError, ConfigError, ExitStatus
from data_prep.tokenizer import load_tokenizer
from finetune.chat.run import MODEL_FOLDER, instruct
from finetune.config import ExportConfig
from finetune.huggingface.export import export
from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.config.method import LowRankMethod
from pretrain.starting.adapted_model import MergedTensors
from tests.distributed import run_ranks
from tests.finetune.chat.chat_texts import instruct_config, write_source
from tests.finetune.chat.test_chat_run import run_on_rank
from tests.finetune.finetune_oracle import random_tensors
from tests.finetune.finetune_runs import llama, write_run
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.tiny_run import states_differ, train_records

LORA: dict[str, Any] = {
    "method": {"name": "lora", "r": 4, "alpha": 16.0},
    "start_from_options": {"new_rows": "drawn"},
    "optimizer__lr": 2e-2,
}
ALL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
CUT: dict[str, Any] = {"parallel__tensor_size": 2, "parallel__sequence_parallel": True, "parallel__zero_stage": 3}


def _run(root: Path, name: str, changes: dict[str, Any], ranks: int = 1) -> tuple[int, list[str]]:
    return run_ranks(
        run_on_rank, ranks, str(root), name, LORA | changes, process_group=False, preload=SESSION, timeout_s=300
    )[0]


@pytest.mark.slow
def test_an_adapter_resumes_in_another_layout_and_peft_says_what_the_merged_model_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path)
    status, lines = _run(tmp_path, "whole", {"training__duration": "6 steps"})
    assert status == ExitStatus.OK and "the adapter in" in lines[-1]
    stopped: dict[str, Any] = {"training__session_limit": "3 steps", "export_dtype": None}
    six = {"training__duration": "6 steps"}
    assert _run(tmp_path, "parts", six | stopped)[0] == ExitStatus.INTERRUPTED
    assert _run(tmp_path, "parts", six | {"export_dtype": None})[0] == ExitStatus.OK
    assert train_records(tmp_path / "whole") == train_records(tmp_path / "parts")
    newest = [sorted((tmp_path / name / "checkpoints").glob("step_*"))[-1] for name in ("whole", "parts")]
    assert states_differ(*newest) == []
    trained = sum(tensor.numel() for tensor in open_checkpoint(newest[0], may_be_adapter=True).tensors.values())
    held = sum(path.stat().st_size for path in newest[0].glob("*.safetensors"))
    # Of each factor itself and two moments; nothing of what is frozen.
    assert 4 * 3 * trained < held < 4 * 3 * trained + 20_000
    # Begun by one process, ended by two that cut it.
    assert _run(tmp_path, "cut", six | stopped)[0] == ExitStatus.INTERRUPTED
    assert _run(tmp_path, "cut", six | CUT | {"export_dtype": None}, ranks=2)[0] == ExitStatus.OK
    for mine, theirs in zip(train_records(tmp_path / "cut"), train_records(tmp_path / "whole"), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    _peft_reads_it(tmp_path / "whole" / MODEL_FOLDER, ALL)
    with pytest.raises(CheckpointError, match="holds an adapter, and not the model"):
        open_checkpoint(tmp_path / "whole")
    _broken_exports_are_refused(tmp_path, monkeypatch)
    # From a Hugging Face directory, which has the tokens: there is no other base to write.
    part = {"name": "lora", "rslora": True, "alpha": 7.5, "target_modules": ["linear_proj", "linear_fc1"]}
    model = tmp_path / "whole" / MODEL_FOLDER
    given = {"model": model, "method": part, "training__precision": "bf16", "start_from_options": {}}
    assert _run(tmp_path, "again", given | {"training__duration": "2 steps"})[0] == ExitStatus.OK
    folder = tmp_path / "again" / MODEL_FOLDER
    _peft_reads_it(folder, {"o_proj", "gate_proj", "up_proj"})
    said = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert said["base_model_name_or_path"] == str(model) and not (folder / "base").exists()


def _broken_exports_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = load_tokenizer(root / "tok")
    model = llama(tokenizer, seq_length=128)
    write_run(root / "other", model, tokenizer, random_tensors(model, seed=5))
    config = ExportConfig(model=root / "whole", output=root / "refused")
    with pytest.raises(CheckpointError, match="other weights than those that the adapter was trained beside"):
        export(config.model_copy(update={"base": root / "other"}))
    with monkeypatch.context() as patch:
        patch.setattr(LowRankMethod, "scale", property(lambda method: 2 * method.alpha / method.r))
        # Both the merged and the unmerged model have it; peft's has not.
        with pytest.raises(CheckpointError, match="logits of the adapter in peft differ"):
            export(config)
    with monkeypatch.context() as patch:
        patch.setattr(MergedTensors, "__getitem__", lambda tensors, name: tensors._base[name])
        with pytest.raises(CheckpointError, match="logits differ"):
            export(config)
    assert not (root / "refused").exists()


def _peft_reads_it(folder: Path, modules: set[str]) -> None:
    import peft
    from transformers import AutoModelForCausalLM

    said = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    base = AutoModelForCausalLM.from_pretrained(said["base_model_name_or_path"])
    merged = AutoModelForCausalLM.from_pretrained(folder)
    tokens = torch.randint(0, base.config.vocab_size, (2, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = base(tokens).logits
        adapted = peft.PeftModel.from_pretrained(base, folder / "adapter").eval()
        found = adapted(tokens).logits
        expected = merged(tokens).logits
    assert (found - expected).abs().max() < 1e-4 and (found - plain).abs().max() > 1e-2
    names = {name.split(".")[-3] for name in load_file(folder / "adapter" / "adapter_model.safetensors")}
    assert names == modules
    record = json.loads((folder / "export.json").read_text())
    assert record["adapter"]["peft_difference"] < 1e-4 < record["adapter"]["base_difference"]


def test_what_an_adapter_cannot_be_is_refused_before_ranks_meet(tmp_path: Path) -> None:
    write_source(tmp_path)
    unknown = {"method": {"name": "lora", "target_modules": ["q_proj"]}}
    for changes, told in (
        (unknown, r"names q_proj, and model\.name=gpt has no such layer"),
        ({"start_from_options": {}}, r"freezes the embedding: 2 new ids would stay"),
    ):
        with pytest.raises(ConfigError, match=told):
            instruct(instruct_config(tmp_path, **LORA | changes), lambda line: None)
