"""GPT-NeoX, whose models are Pythia's, too: attention and MLP side by side, a part of each head rotated (Black et al.
2022, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.decoder_family import RotaryDecoder
from pretrain.models.huggingface.obstacles import Need
from pretrain.models.huggingface.rotary_decoder import attention_bias, rotary_fields
from pretrain.models.huggingface.rules import Rule, linear, vocabulary
from pretrain.models.transformer_config import EMBEDDING, OUTPUT


class GPTNeoX(RotaryDecoder):
    """See `HuggingFaceFamily`. Its `query_key_value` is packed per head `[q, k, v]`, as ours is per query group."""

    model_type = "gpt_neox"
    classes: Mapping[str, str] = {"causal": "GPTNeoXForCausalLM", "classification": "GPTNeoXForSequenceClassification"}
    normalization = "LayerNorm"
    activations = {"gelu": "gelu", "gelu_tanh": "gelu_new"}
    characteristic = {
        "residual": ("parallel", "sequential"),
        "bias": (True,),
        "attention_bias": ("all", "none"),
    }
    computes = frozenset({"rotary_percent"})

    def needs(self, model: GPTConfig) -> list[Need]:
        """See the base class."""
        heads = Need("num_query_groups", (model.num_attention_heads,), "as many as heads")
        return [*super().needs(model), heads]

    def to_config(self, model: GPTConfig, ids: RoleIds) -> dict[str, Any]:
        """See `HuggingFaceFamily.to_config`."""
        fields = rotary_fields(model, self.activations)
        del fields["num_key_value_heads"]
        # What is not said is a quarter there.
        fields["rope_parameters"]["partial_rotary_factor"] = model.rotary_percent
        return fields | {
            "layer_norm_eps": model.norm_epsilon,
            "use_parallel_residual": model.residual == "parallel",
            "attention_bias": model.has_qkv_bias,
            "hidden_dropout": model.hidden_dropout,
        }

    def from_config(self, fields: Mapping[str, Any], where: Path | str) -> GPTConfig:
        """See `HuggingFaceFamily.from_config`."""
        return GPTConfig(
            **self.our_choices(fields, where),
            norm_epsilon=fields["layer_norm_eps"],
            residual="parallel" if fields.get("use_parallel_residual", True) else "sequential",
            bias=True,
            attention_bias=attention_bias(fields, bias=True),  # type: ignore[arg-type]
            hidden_dropout=fields.get("hidden_dropout", 0.0),
        )

    def rules(self, model: GPTConfig, ids: RoleIds) -> list[Rule]:
        """See `HuggingFaceFamily.rules`."""
        rules = [vocabulary(EMBEDDING, "gpt_neox.embed_in.weight", model)]
        for number in range(model.num_layers):
            ours, theirs = f"decoder.layers.{number}.", f"gpt_neox.layers.{number}."
            rules += linear(f"{ours}input_layernorm", f"{theirs}input_layernorm", bias=True)
            rules += linear(f"{ours}pre_mlp_layernorm", f"{theirs}post_attention_layernorm", bias=True)
            qkv = f"{ours}self_attention.linear_qkv", f"{theirs}attention.query_key_value"
            rules += linear(*qkv, bias=model.has_qkv_bias)
            projection = f"{ours}self_attention.linear_proj", f"{theirs}attention.dense"
            rules += linear(*projection, bias=model.has_projection_bias)
            rules += linear(f"{ours}mlp.linear_fc1", f"{theirs}mlp.dense_h_to_4h", bias=True)
            rules += linear(f"{ours}mlp.linear_fc2", f"{theirs}mlp.dense_4h_to_h", bias=True)
        rules += linear("decoder.final_layernorm", "gpt_neox.final_layer_norm", bias=True)
        if not model.tie_embeddings:
            rules.append(vocabulary(OUTPUT, "embed_out.weight", model))
        return rules
