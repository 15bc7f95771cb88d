"""Each written weight is the one that was trained: every row of the vocabulary, and every number after rounding."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import CheckpointError
from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import export as export_module
from finetune.huggingface.export import export
from pretrain.config.model import ModelConfig
from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.huggingface import encoder_layers, gpt2, rotary_decoder, rules
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.logit_check import PADDING_SEGMENT, check_rows
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

ENCODER = {"num_layers": 1, "hidden_size": 32, "num_attention_heads": 4, "seq_length": 64, "vocab_multiple": 64}
GPT2 = {"position_embedding": "learned", "normalization": "LayerNorm", "activation": "gelu", "num_query_groups": None}
DOWN = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tok"), control_symbols=symbols)


def config(place: Path, **changes: object) -> ExportConfig:
    settings = {"model": place / "run", "output": place / "out", "sequences": 1}
    return ExportConfig.model_validate(settings | changes)


def losing(row: int) -> Callable[..., rules.Rule]:
    """A mapping of tables by token id that loses one row of the embedding."""

    def vocabulary(ours: str, theirs: str, model: ModelConfig) -> rules.Rule:
        rule = rules.vocabulary(ours, theirs, model)

        def split(rows: torch.Tensor) -> tuple[torch.Tensor, ...]:
            (kept,) = rule.split(rows.clone())
            if "embedding" in ours:
                kept[row] = 0
            return (kept,)

        return rules.Rule(ours, rule.theirs, split, rule.join)

    return vocabulary


@pytest.mark.parametrize(
    ("module", "make"),
    [
        (rotary_decoder, lambda tokenizer: llama(tokenizer, tie_embeddings=False)),
        (gpt2, lambda tokenizer: llama(tokenizer, tie_embeddings=False, **GPT2)),
        (encoder_layers, lambda tokenizer: BertConfig(**ENCODER, vocab_size=tokenizer.vocab_size)),
    ],
    ids=["llama", "gpt2", "bert"],
)
def test_every_row_of_the_vocabulary_is_compared(
    module: Any,
    make: Callable[[Tokenizer], ModelConfig],
    tokenizer: Tokenizer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = make(tokenizer)
    reference = None if isinstance(model, BertConfig) else oracle_outputs
    write_run(tmp_path / "run", model, tokenizer)
    assert export(config(tmp_path), reference)["token_rows_equal_to_source"] == tokenizer.vocab_size
    # An id that none of the compared sequences holds.
    text_ids = tokenizer.encode("\n".join(export_module.PROBES))
    read = set(check_rows(model, text_ids, 1, 0, RoleIds()).tokens_BS.flatten().tolist())
    unread = min(set(range(tokenizer.vocab_size)) - read)
    monkeypatch.setattr(module, "vocabulary", losing(unread))
    with pytest.raises(CheckpointError, match=rf"another vector for the token id {unread} than .*nothing was written"):
        export(config(tmp_path, overwrite=True), reference)


@pytest.mark.parametrize("seed", [0, 1])
def test_rows_that_read_every_id(seed: int, tokenizer: Tokenizer) -> None:
    ids = RoleIds(pad=2, mask=3, classification=4, separator=5)
    for model in (llama(tokenizer), BertConfig(**ENCODER, vocab_size=tokenizer.vocab_size)):
        rows = check_rows(model, [7, 8, 9], 1, seed, ids, every_id=True)
        segments = rows.segment_ids_BS
        in_text = torch.ones_like(rows.tokens_BS).bool() if segments is None else segments != PADDING_SEGMENT
        unread = set(range(tokenizer.vocab_size)) - set(rows.tokens_BS[in_text].tolist())
        assert unread == ({ids.pad} if segments is not None else set())
        few = check_rows(model, [], 2, seed, NO_SPECIALS).tokens_BS[:2].flatten()
        assert len(few.unique()) == len(few)  # nothing is read twice before all was read once


NO_SPECIALS = RoleIds()


def test_a_tensor_that_is_lost_when_it_is_rounded(
    tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read wrongly each time but the first two, when it is written and compared in float32."""
    write_run(tmp_path / "run", llama(tokenizer), tokenizer)
    real, passes = export_module.to_hf, []

    def to_hf(*arguments: Any) -> Iterator[tuple[str, torch.Tensor]]:
        passes.append(1)
        for name, tensor in real(*arguments):
            yield name, torch.zeros_like(tensor) if name == DOWN and len(passes) > 2 else tensor

    monkeypatch.setattr(export_module, "to_hf", to_hf)
    export(config(tmp_path), oracle_outputs)
    passes.clear()
    with pytest.raises(CheckpointError, match=rf"{DOWN} was not written as it is"):
        export(config(tmp_path, dtype="bfloat16", overwrite=True), oracle_outputs)
    assert json.loads((tmp_path / "out" / "export.json").read_text())["dtype"] == "float32"


def test_what_rounding_changed_is_told(
    tokenizer: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from finetune.cli import export_command

    tensors = write_run(tmp_path / "run", llama(tokenizer), tokenizer)
    export_command(model=tmp_path / "run", output=tmp_path / "out", dtype="bfloat16")
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    rounding = record["rounding"]
    changes = {name: (tensor.bfloat16().float() - tensor).abs() for name, tensor in tensors.items()}
    kept = {name: change[: tokenizer.vocab_size] if "word" in name else change for name, change in changes.items()}
    assert rounding["largest_change"] == pytest.approx(max(float(change.max()) for change in kept.values()))
    assert 1e-3 < rounding["largest_relative_change"] <= 2**-8
    assert rounding["tensors"] == record["tensors_equal_to_source"] == 20
    said = capsys.readouterr().out
    assert "rounded to bfloat16: each weight by at most 0.39% of itself, logits by at most" in said
    assert f"{rounding['largest_logit_difference']:.1e}" in said
    assert "each weight was rounded to bfloat16" in (tmp_path / "out" / "README.md").read_text()
