"""Bottlenecks stand behind the sublayers of each family, begin near the identity, and are all that is trained."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from configs.errors import ConfigError
from finetune.methods.bottleneck import BottleneckAdapter
from finetune.methods.config import BottleneckConfig

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any], int]] = {
    "llama": ("LlamaForCausalLM", SIZES, 2),
    "gpt_neox": ("GPTNeoXForCausalLM", SIZES, 2),
    "phi": ("PhiForCausalLM", SIZES, 2),
    "bert": ("BertForSequenceClassification", SIZES, 2),
    "modernbert": ("ModernBertForSequenceClassification", SIZES | {"global_attn_every_n_layers": 2}, 2),
    "gpt2": ("GPT2LMHeadModel", {"vocab_size": 64, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}, 2),
    "t5": (
        "T5ForConditionalGeneration",
        {"vocab_size": 64, "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2},
        4,
    ),
    "bart": (
        "BartForConditionalGeneration",
        {"vocab_size": 64, "d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2}
        | {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_position_embeddings": 32},
        4,
    ),
}
"""Of each family a class, its sizes, and how many layers it has in all; those of a decoder beside an encoder attend
twice."""


def _network(family: str) -> Any:
    cls, sizes, _ = FAMILIES[family]
    torch.manual_seed(0)
    return getattr(transformers, cls)(transformers.AutoConfig.for_model(family, **sizes)).eval()


def _logits(network: Any) -> torch.Tensor:
    tokens = torch.randint(4, 60, (2, 7), generator=torch.Generator().manual_seed(1))
    given = {"decoder_input_ids": tokens} if network.config.is_encoder_decoder else {}
    with torch.no_grad():
        return network(input_ids=tokens, attention_mask=torch.ones_like(tokens), **given).logits


@pytest.mark.parametrize(
    ("family", "placement"), [*((family, "houlsby") for family in FAMILIES), ("bert", "pfeiffer"), ("t5", "pfeiffer")]
)
def test_each_sublayer_has_one(family: str, placement: Any) -> None:
    network = _network(family)
    before, layers = _logits(network), FAMILIES[family][2]
    config = BottleneckConfig(size=3, placement=placement)
    adapted = BottleneckAdapter(config, "LM", 7).put_in(network)
    stands = {name for name, module in adapted.named_modules() if name.endswith(".bottleneck")}
    attentions = layers + (2 if network.config.is_encoder_decoder else 0)
    assert len(stands) == layers + (attentions if placement == "houlsby" else 0)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    assert sum(parameter.numel() for parameter in trained) == len(stands) * (2 * 16 * 3 + 16 + 3)
    after = _logits(adapted)
    assert 0 < (after - before).abs().max() < 0.05 * before.abs().max()


def test_a_network_without_known_sublayers_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is bottleneck, which does not fit Linear: none of its layers is known"):
        BottleneckAdapter(BottleneckConfig(), "LM", 0).put_in(torch.nn.Linear(2, 2))
