"""The declaration of GPT: the sizes and choices of decoders from GPT-2 to Gemma 3, and its table of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from pretrain.models.gpt.attention_config import DecoderAttentionConfig
from pretrain.models.parameter_table import Constant, ParameterSpec, Use
from pretrain.models.transformer_config import EMBEDDING, OUTPUT


class GPTConfig(DecoderAttentionConfig):
    """A decoder-only transformer: causal attention; where its norms stand is a choice."""

    implementation: ClassVar[str] = "pretrain.models.gpt.network:GPTFamily"
    huggingface: ClassVar[tuple[str, ...]] = (
        "llama",
        "gpt2",
        "starcoder2",
        "mistral",
        "qwen2",
        "qwen3",
        "gpt_neox",
        "phi",
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo2",
    )
    sees_prefixes: ClassVar[bool] = True
    adaptable: ClassVar[tuple[str, ...]] = ("linear_qkv", "linear_proj", "linear_fc1", "linear_fc2")

    name: str = "gpt"
    """Which model family it is."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "RMSNorm"
    """Kind of the norms."""
    norm_plus_one: bool = False
    """Whether RMSNorm multiplies by 1 + its weight (Gemma), which begins at 0, rather than by its weight."""
    norm_placement: Literal["pre", "after", "both"] = "pre"
    """Norms of what attention and MLP read, of what they give before it is added (OLMo 2), or of both (Gemma 2)."""
    residual: Literal["sequential", "parallel", "parallel_one_norm"] = "sequential"
    """Whether the MLP reads what the attention has added to, or both read the same stream, through a norm each
    (GPT-NeoX) or one norm for both (Phi)."""
    activation: Literal["gelu", "gelu_tanh", "swiglu", "geglu_tanh"] = "swiglu"
    """Activation of the MLP; gelu_tanh is GPT-2's approximation, swiglu and geglu_tanh are gated by silu and by it."""
    bias: bool = False
    """Whether the linear layers have biases; those of the attention: see `attention_bias`."""
    embedding_scale: bool = False
    """Whether token embeddings are multiplied by the square root of hidden_size (Gemma), of base_hidden_size where that
    is set."""
    tie_embeddings: bool = True
    """Whether the output layer shares the input embedding's weights."""
    output_bias: bool = False
    """Whether the output layer has a bias (Phi)."""
    logit_softcap: float | None = Field(default=None, gt=0)
    """Logits x become cap tanh(x / cap) (Gemma 2); null: they stay."""

    @model_validator(mode="after")
    def _norms_are_consistent(self) -> GPTConfig:
        if self.normalization != "RMSNorm":
            for key, plain in {"norm_plus_one": False, "qk_norm": None}.items():
                if getattr(self, key) != plain:
                    raise ValueError(
                        f"{key} is of RMSNorm, and normalization is {self.normalization}; expected"
                        f" normalization=RMSNorm, or {key}={'false' if plain is False else 'null'}"
                    )
        if self.residual != "sequential" and self.norm_placement != "pre":
            raise ValueError(
                f"residual is {self.residual}, and norm_placement is {self.norm_placement}; expected"
                " norm_placement=pre, or residual=sequential"
            )
        if self.embedding_scale and self.position_embedding == "learned":
            raise ValueError("embedding_scale is true, and position_embedding is learned; expected rope")
        return self

    @property
    def num_positions(self) -> int:
        """See the base class."""
        return self.seq_length if self.position_embedding == "learned" else 0

    @property
    def norm_init(self) -> Constant:
        """See the base class."""
        return Constant(0.0) if self.norm_plus_one else super().norm_init

    @property
    def embedding_multiplier(self) -> float:
        """What token embeddings are multiplied by; no power of the width, where that is scaled."""
        return (self.base_hidden_size or self.hidden_size) ** 0.5 if self.embedding_scale else 1.0

    def unscaled_parameters(self) -> Iterator[ParameterSpec]:
        """See the base class."""
        table, init = (self.padded_vocab_size, self.hidden_size), self.normal(self.init_std)
        if self.tie_embeddings:
            yield ParameterSpec(EMBEDDING, table, "ends", init, tensor_axis=0, local_names=(OUTPUT,))
        else:
            yield ParameterSpec(EMBEDDING, table, "first", init, tensor_axis=0, use=Use.LOOKED_UP)
        if self.num_positions:
            positions = (self.num_positions, self.hidden_size)
            yield ParameterSpec("embedding.position_embeddings.weight", positions, "first", init, use=Use.LOOKED_UP)
        has_norms = self.norm_placement != "after"
        for number in range(self.num_layers):
            yield from self.layer_parameters(
                number,
                "decoder",
                attention_norm=has_norms,
                mlp_norm=has_norms and self.residual != "parallel_one_norm",
            )
            yield from self._query_key_norms(number)
            if self.norm_placement != "pre":
                for name in ("post_self_attn_layernorm", "post_mlp_layernorm"):
                    yield from self.norm_parameters(f"decoder.layers.{number}.{name}", number)
        yield from self.norm_parameters("decoder.final_layernorm", "last")
        if not self.tie_embeddings:
            yield ParameterSpec(OUTPUT, table, "last", init, tensor_axis=0)
        if self.output_bias:
            yield ParameterSpec("output_layer.bias", table[:1], "last", Constant(0.0), tensor_axis=0, decays=False)

    def _query_key_norms(self, number: int) -> Iterator[ParameterSpec]:
        """Over each head: one weight for all heads, of which each tensor rank sees its own. Over all: cut with them."""
        if self.qk_norm is None:
            return
        over_head = self.qk_norm == "head"
        for name, heads in (("q_layernorm", self.num_attention_heads), ("k_layernorm", self.query_groups)):
            yield ParameterSpec(
                f"decoder.layers.{number}.self_attention.{name}.weight",
                (self.head_size if over_head else heads * self.head_size,),
                number,
                self.norm_init,
                tensor_axis=None if over_head else 0,
                decays=False,
                tensor_partial=over_head,
            )
