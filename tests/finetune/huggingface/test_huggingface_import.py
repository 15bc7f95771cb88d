"""`python -m finetune import`: a run at step 0 whose export is what was imported, for every family."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from configs.errors import DataError
from finetune.config import ExportConfig, ImportConfig
from finetune.huggingface.export import export
from finetune.huggingface.importing import import_model
from finetune.model_checkpoint import find_tokenizer
from pretrain.checkpoint.index import Index
from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.checkpoint.reader import CheckpointReader
from pretrain.models.huggingface.safetensors_files import SafetensorsDirectory
from pretrain.models.huggingface.weights import to_hf
from tests.pretrain.starting.source_in_memory import IDS, MODELS, write_directory


@pytest.mark.parametrize("name", MODELS)
def test_an_export_of_an_import_has_the_same_bits(name: str, tmp_path: Path) -> None:
    theirs = write_directory(tmp_path / "hf", MODELS[name], dtype="bfloat16")
    config = ImportConfig(model=tmp_path / "hf", output=tmp_path / "run", tokenizer="none", check_logits=False)
    told = import_model(config)
    assert "without states of an optimizer, and no tokenizer" in told[-1]
    source = open_checkpoint(tmp_path / "run")
    if name == "roberta":  # its export needs a tokenizer: transformers counts positions from the padding token
        back = dict(to_hf(source.tensors, source.model, IDS))
    else:
        export(ExportConfig(model=tmp_path / "run", output=tmp_path / "back", tokenizer="none", sequences=1))
        back = dict(SafetensorsDirectory(tmp_path / "back"))
    assert set(back) == set(theirs)
    assert [key for key in back if not torch.equal(back[key].to(torch.bfloat16), theirs[key])] == []
    reader = CheckpointReader(tmp_path / "run")
    assert reader.step == 0 and {reader.states(key) for key in reader.names()} == {("master",)}
    index = Index.open(reader.path)
    assert index.find_damage(0) == []


def test_an_import_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write_directory(tmp_path / "hf", MODELS["llama"])
    config = ImportConfig(model=tmp_path / "hf", output=tmp_path / "run", tokenizer="none", check_logits=False)
    import_model(config)
    with pytest.raises(DataError, match="run"):
        import_model(config)
    import_model(config.model_copy(update={"overwrite": True}))
    record = json.loads((tmp_path / "run" / "weights.json").read_text())
    assert record["holds"] == "weights" and record["sources"][0]["architecture"] == "LlamaForCausalLM"
    with pytest.raises(DataError, match="no tokenizer that can be imported"):
        import_model(config.model_copy(update={"overwrite": True, "tokenizer": "model"}))
    assert find_no_leftovers(tmp_path) == []


def find_no_leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_tokenizer_of_the_directory_becomes_the_runs(tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    write_directory(tmp_path / "hf", MODELS["llama"])
    words = {word: number for number, word in enumerate(["<unk>", "</s>", "a", "ship"])}
    pipeline = Tokenizer(WordLevel(words, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=pipeline, unk_token="<unk>", eos_token="</s>").save_pretrained(
        tmp_path / "hf"
    )
    config = ImportConfig(model=tmp_path / "hf", output=tmp_path / "run", check_logits=False)
    assert "its tokenizer (huggingface, 4 ids)" in import_model(config)[-1]
    source = open_checkpoint(tmp_path / "run")
    tokenizer = find_tokenizer(source)
    assert tokenizer.role("end_of_document") == 1 and tokenizer.fingerprint == source.metadata["tokenizer_fingerprint"]
