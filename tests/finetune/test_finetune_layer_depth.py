"""The depth of parameters by the names that transformers gives them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from configs.errors import ConfigError
from finetune.layer_depth import HEAD, LayerDepths, freeze_lower

WORDS = {"vocab_size": 16}
SMALL = {"hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8} | WORDS


def built(kind: str, head: str, **fields: Any) -> torch.nn.Module:
    config = transformers.AutoConfig.for_model(kind, **fields)
    with torch.device("meta"):
        return getattr(transformers, head).from_config(config)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "head", "fields", "expected"),
    [
        (
            "bert",
            "AutoModelForSequenceClassification",
            SMALL | {"num_hidden_layers": 3},
            {
                "bert.embeddings.LayerNorm.weight": (3, -1),
                "bert.encoder.layer.0.attention.self.query.weight": (2, 0),
                "bert.encoder.layer.2.output.dense.bias": (0, 2),
                "bert.pooler.dense.weight": (HEAD, None),
                "classifier.weight": (HEAD, None),
            },
        ),
        (
            "gpt2",
            "AutoModelForSequenceClassification",
            {"n_embd": 8, "n_head": 2, "n_layer": 2, "vocab_size": 16},
            {
                "transformer.wte.weight": (2, -1),
                "transformer.wpe.weight": (2, -1),
                "transformer.h.0.ln_1.weight": (1, 0),
                "transformer.h.1.mlp.c_fc.weight": (0, 1),
                "transformer.ln_f.weight": (HEAD, None),
                "score.weight": (HEAD, None),
            },
        ),
        (
            "t5",
            "AutoModelForSeq2SeqLM",
            {"d_model": 8, "d_ff": 8, "d_kv": 4, "num_heads": 2, "num_layers": 2, "num_decoder_layers": 3, **WORDS},
            {
                "shared.weight": (3, -1),
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (1, 0),
                "encoder.block.1.layer.1.layer_norm.weight": (0, 1),
                "decoder.block.0.layer.0.SelfAttention.q.weight": (2, 0),
                "decoder.final_layer_norm.weight": (HEAD, None),
            },
        ),
    ],
)  # fmt: skip
def test_depth_follows_from_the_name(
    kind: str, head: str, fields: dict[str, Any], expected: dict[str, tuple[int, int | None]]
) -> None:
    depths = LayerDepths(built(kind, head, **fields), "optimizer.layer_decay")
    assert {name: (depths.above[name], depths.below[name]) for name in expected} == expected


def test_what_is_frozen() -> None:
    network = built("bert", "AutoModelForSequenceClassification", **SMALL, num_hidden_layers=3)
    left = freeze_lower(network, 2)
    trained = {name.split(".weight")[0].split(".bias")[0] for name, p in network.named_parameters() if p.requires_grad}
    assert all(name.startswith(("bert.encoder.layer.2.", "bert.pooler", "classifier")) for name in trained)
    assert "bert.encoder.layer.2.output.dense" in trained
    assert left == sum(p.numel() for p in network.parameters() if p.requires_grad)
    with pytest.raises(ConfigError, match=r"training\.freeze_layers: is 4\n.*at most 3"):
        freeze_lower(network, 4)


def test_a_network_that_shares_one_layer_is_refused() -> None:
    albert = built("albert", "AutoModelForSequenceClassification", **SMALL, embedding_size=8)
    with pytest.raises(ConfigError, match=r"optimizer\.layer_decay: AlbertForSequenceClassification does not number"):
        LayerDepths(albert, "optimizer.layer_decay")
