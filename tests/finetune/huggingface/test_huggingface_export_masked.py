"""Export of encoders: what transformers makes of it in a process of its own, and that mistakes write nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError, ConfigError, DataError
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.importing import import_tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import weight_files
from finetune.huggingface.export import export
from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.config.model import ModelConfig
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.huggingface import encoder_layers, modernbert
from pretrain.models.huggingface.transformers_model import load_causal, load_pretrained
from tests.finetune.finetune_runs import write_run
from tests.finetune.finetune_tokenizers import LINES, train_tokenizer

SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
SIZES |= {"seq_length": 64, "vocab_multiple": 64}
MODELS: dict[str, tuple[type[ModelConfig], dict[str, Any]]] = {
    "bert": (BertConfig, {}),
    "megatron-bert": (BertConfig, {"norm_placement": "pre", "pooler": False}),
    "roberta": (RobertaConfig, {}),
    "modernbert": (ModernEncoderConfig, {"local_window": 8}),
}
TEXT = "The try {} specifies handlers"

FILL_MASK = """
import json, sys
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoTokenizer, pipeline
path, text = sys.argv[1:]
fill = pipeline("fill-mask", path)
answer = fill(text.format(fill.tokenizer.mask_token), top_k=3)
ids = AutoTokenizer.from_pretrained(path)(text.format(fill.tokenizer.mask_token), return_tensors="pt")
model, report = AutoModelForMaskedLM.from_pretrained(path, output_loading_info=True)
with torch.no_grad():
    logits = model.eval()(**ids).logits
body = AutoModel.from_pretrained(path)
print(json.dumps({
    "class": type(model).__name__, "body": type(body).__name__,
    "missing": sorted(report["missing_keys"]), "unexpected": sorted(report["unexpected_keys"]),
    "tokens": [each["token"] for each in answer], "ids": ids["input_ids"][0].tolist(), "inputs": sorted(ids),
    "logits": logits[0].tolist(),
}))
"""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tok"), control_symbols=symbols)


def write(run: Path, name: str, tokenizer: Tokenizer, **metadata: Any) -> tuple[ModelConfig, dict[str, torch.Tensor]]:
    declaration, changes = MODELS[name]
    model = declaration.model_validate(SIZES | {"vocab_size": tokenizer.vocab_size} | changes)
    return model, write_run(run, model, tokenizer, metadata=metadata)


def config(run: Path, output: Path, **changes: object) -> ExportConfig:
    return ExportConfig.model_validate({"model": run, "output": output, "sequences": 1} | changes)


def fill_mask(output: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", FILL_MASK, str(output), TEXT], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def reference_logits_of(model: ModelConfig, tensors: dict[str, torch.Tensor], ids: list[int]) -> torch.Tensor:
    from pretrain.engine.single import reference_logits

    return reference_logits(model, tensors, torch.tensor([ids]))[0, :, : model.vocab_size]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_masks_are_filled_in_a_fresh_process(name: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    model, tensors = write(tmp_path / "run", name, tokenizer)
    record = export(config(tmp_path / "run", tmp_path / "out"))
    assert record["logits"]["largest_difference"] < 2e-5 and record["pipeline"] == "fill-mask"
    assert record["logits"]["outputs"] == (["logits", "pair"] if model.has_pair_head else ["logits"])
    assert json.loads((tmp_path / "out" / "export.json").read_text()) == record
    found = fill_mask(tmp_path / "out")
    role = tokenizer.role
    expected = [role("classification"), *tokenizer.encode("The try"), role("mask")]
    expected += [*tokenizer.encode(" specifies handlers"), role("separator")]
    assert found["ids"] == expected
    types = ["token_type_ids"] if name in ("bert", "megatron-bert") else []
    assert found["inputs"] == ["attention_mask", "input_ids", *types]
    assert found["class"].endswith("ForMaskedLM") and found["missing"] == [] and found["body"].endswith("Model")
    assert all(key.startswith(("bert.pooler.", "cls.seq_relationship.")) for key in found["unexpected"])
    logits = reference_logits_of(model, tensors, expected)
    assert (torch.tensor(found["logits"]) - logits).abs().max() < 2e-5
    place = expected.index(role("mask"))
    assert found["tokens"] == logits[place].topk(3).indices.tolist()
    card = (tmp_path / "out" / "README.md").read_text()
    assert "pipeline_tag: fill-mask" in card and "masked language model" in card
    assert not (tmp_path / "out" / "generation_config.json").exists()
    with pytest.raises(DataError, match=r"holds a \w+For\w+\s+expected: a causal language model"):
        load_causal(tmp_path / "out")


@pytest.mark.parametrize(
    ("pairs", "said"), [("next_sentence", "follows the first (0)"), ("sentence_order", "swapped (1)"), (None, None)]
)
def test_the_card_says_what_the_pair_head_was_asked(
    pairs: str | None, said: str | None, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    objective = {"name": "masked"} if pairs is None else {"name": "masked_pairs", "pairs": pairs}
    write(tmp_path / "run", "bert", tokenizer, config={"objective": objective})
    export(config(tmp_path / "run", tmp_path / "out"))
    card = (tmp_path / "out" / "README.md").read_text()
    assert said in card if said else "seq_relationship" not in card


@pytest.fixture(scope="module")
def bert_run(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    run = tmp_path_factory.mktemp("runs") / "bert"
    write(run, "bert", tokenizer)
    return run


@pytest.mark.parametrize("objective", [{"name": "not_here:Mine"}, {"name": "masked", "younger_key": 1}])
def test_an_objective_that_cannot_be_read_is_told(
    objective: dict[str, Any], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    write(tmp_path / "run", "bert", tokenizer, config={"objective": objective})
    with pytest.raises(CheckpointError, match=rf"trained on objective.name={objective['name']}, which cannot be read"):
        export(config(tmp_path / "run", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_readers_code_of_the_model_card_runs(
    bert_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    export(config(bert_run, tmp_path / "out"))
    code = (tmp_path / "out" / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert "token_str" in capsys.readouterr().out


def test_what_was_trained_without_special_tokens_reads_without(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    places, objective = {"data": {"train": []}}, {"name": "masked", "add_special_tokens": False}
    write(
        tmp_path / "run",
        "roberta",
        tokenizer,
        config=places | {"objective": objective},
    )
    export(config(tmp_path / "run", tmp_path / "out"))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs("The try")["input_ids"] == tokenizer.encode("The try")
    assert theirs.cls_token_id == tokenizer.role("classification")
    pair = AutoTokenizer.from_pretrained(tmp_path / "out")("The try", "an")
    assert pair["input_ids"] == tokenizer.encode("The try") + tokenizer.encode("an")


def test_pairs_have_token_types(bert_run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    export(config(bert_run, tmp_path / "out"))
    found = AutoTokenizer.from_pretrained(tmp_path / "out")("The", "try")
    first, second = tokenizer.encode("The"), tokenizer.encode("try")
    cls, sep = tokenizer.role("classification"), tokenizer.role("separator")
    assert found["input_ids"] == [cls, *first, sep, *second, sep]
    assert found["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_a_wordpiece_tokenizer(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    letters = sorted({letter for line in LINES for letter in line.lower() if letter.isalnum()})
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{letter}" for letter in letters),
        "the",
        "is",
    ]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    words = import_tokenizer(tmp_path / "vocab.txt", tmp_path / "words", {}, None, False)
    write(tmp_path / "run", "bert", words)
    export(config(tmp_path / "run", tmp_path / "out"))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "out")
    cls, sep, mask = (words.role(role) for role in ("classification", "separator", "mask"))
    assert None not in (cls, sep, mask)
    expected = [cls, *words.encode("The"), mask, *words.encode("is"), sep]
    assert theirs(f"The {theirs.mask_token} is")["input_ids"] == expected


def swapped(model: Any) -> Any:
    from pretrain.models.huggingface.rules import query_groups

    split, join = query_groups(model)
    return lambda packed: (lambda q, k, v: (k, q, v))(*split(packed)), join


def naive(model: Any) -> Any:
    return lambda packed: packed.chunk(3), lambda parts: torch.cat(list(parts))


def left_packed(model: Any) -> Any:
    return lambda packed: (packed,), lambda parts: parts[0]


@pytest.mark.parametrize(
    ("name", "module", "target", "wrong"),
    [
        ("bert", encoder_layers, "query_groups", swapped),
        ("bert", encoder_layers, "query_groups", naive),
        ("modernbert", modernbert, "stacked_query_groups", left_packed),
    ],
    ids=["q and k", "naive qkv", "packed qkv"],
)
def test_a_faulty_mapping_writes_nothing(
    name: str,
    module: Any,
    target: str,
    wrong: Any,
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(tmp_path / "run", name, tokenizer)
    monkeypatch.setattr(module, target, wrong)
    with pytest.raises(CheckpointError, match=r"logits differ by .*nothing was written"):
        export(config(tmp_path / "run", tmp_path / "out"))
    assert [place.name for place in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("damage", ["one bit", "missing", "left over"])
def test_a_tensor_that_was_not_written_as_it_is(
    damage: str, bert_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too small for the comparison of logits."""
    save = weight_files.save_weights

    def faulty(tensors: dict[str, torch.Tensor], path: Path) -> None:
        changed = dict(tensors)
        name = "bert.encoder.layer.1.output.dense.bias"
        if damage == "one bit":
            bits = changed[name].clone().view(torch.int32)
            bits[3] ^= 1
            changed[name] = bits.view(torch.float32)
        if damage == "missing":
            del changed[name]
        if damage == "left over":
            changed["extra"] = torch.zeros(1)
        save(changed, path)

    monkeypatch.setattr(weight_files, "save_weights", faulty)
    with pytest.raises(CheckpointError, match=r"dense.bias (is not in|was not written)|hold extra"):
        export(config(bert_run, tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_in_several_files(bert_run: Path, tmp_path: Path) -> None:
    record = export(config(bert_run, tmp_path / "out", dtype="bfloat16", max_shard_gb=2e-5))
    assert 1e-4 < record["rounding"]["largest_logit_difference"] < 1
    assert len(list((tmp_path / "out").glob("model-*-of-*.safetensors"))) > 2
    model = load_pretrained(tmp_path / "out")
    assert model.dtype == torch.bfloat16 and type(model).__name__ == "BertForPreTraining"
    assert record["parameters"] == model.num_parameters()


def test_roberta_needs_a_padding_token(tokenizer: Tokenizer, tmp_path: Path) -> None:
    write(tmp_path / "run", "roberta", tokenizer)
    with pytest.raises(ConfigError, match="no token to pad with"):
        export(config(tmp_path / "run", tmp_path / "out", tokenizer="none"))


def test_a_checkpoint_says_its_family(bert_run: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    assert isinstance(open_checkpoint(bert_run).model, BertConfig)
    write(tmp_path / "run", "bert", tokenizer, model={"name": "brt", "vocab_size": 9})
    with pytest.raises(CheckpointError, match=r"no model family .brt.*did you mean bert"):
        open_checkpoint(tmp_path / "run")
