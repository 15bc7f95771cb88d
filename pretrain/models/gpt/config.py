"""The declaration of GPT: the sizes and choices between GPT-2 and Llama, and its table of parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from pretrain.models.parameter_table import ParameterSpec, Use
from pretrain.models.transformer_config import TransformerModelConfig

EMBEDDING = "embedding.word_embeddings.weight"
OUTPUT = "output_layer.weight"


class GPTConfig(TransformerModelConfig):
    """A decoder-only transformer: pre-norm, causal attention."""

    implementation: ClassVar[str] = "pretrain.models.gpt.network:GPTFamily"
    sees_prefixes: ClassVar[bool] = True
    huggingface: ClassVar[tuple[str, ...]] = ("llama", "gpt2", "starcoder2")

    name: str = "gpt"
    """Which model family it is."""
    num_query_groups: int | None = Field(default=None, gt=0)
    """Key/value heads of each attention (grouped-query attention); null: as many as query heads."""
    position_embedding: Literal["learned", "rope"] = "rope"
    """How positions enter: a learned table added to the tokens (GPT-2), or rotary (Llama)."""
    rotary_base: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    normalization: Literal["LayerNorm", "RMSNorm"] = "RMSNorm"
    """Kind of the norms."""
    activation: Literal["gelu", "gelu_tanh", "swiglu"] = "swiglu"
    """Activation of the MLP; gelu_tanh is GPT-2's approximation."""
    bias: bool = False
    """Whether the linear layers have biases."""
    tie_embeddings: bool = True
    """Whether the output layer shares the input embedding's weights."""

    @model_validator(mode="after")
    def _consistent(self) -> GPTConfig:
        if self.num_attention_heads % self.query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of"
                f" num_query_groups {self.num_query_groups}"
            )
        if self.position_embedding == "rope" and self.head_size % 2:
            raise ValueError(f"rotary positions need an even head size; hidden_size / heads is {self.head_size}")
        return self

    @property
    def query_groups(self) -> int:
        """Key/value heads of each attention."""
        return self.num_query_groups or self.num_attention_heads

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        return super().resolved() | {"num_query_groups": self.query_groups}

    def parameters(self) -> Iterator[ParameterSpec]:
        """See the base class; in the order of the network."""
        table, init = (self.padded_vocab_size, self.hidden_size), self.normal(self.init_std)
        if self.tie_embeddings:
            yield ParameterSpec(EMBEDDING, table, "ends", init, tensor_axis=0, local_names=(OUTPUT,))
        else:
            yield ParameterSpec(EMBEDDING, table, "first", init, tensor_axis=0, use=Use.LOOKED_UP)
        if self.position_embedding == "learned":
            positions = (self.seq_length, self.hidden_size)
            yield ParameterSpec("embedding.position_embeddings.weight", positions, "first", init, use=Use.LOOKED_UP)
        for number in range(self.num_layers):
            yield from self.layer_parameters(number, "decoder")
        yield from self.norm_parameters("decoder.final_layernorm", "last")
        if not self.tie_embeddings:
            yield ParameterSpec(OUTPUT, table, "last", init, tensor_axis=0)
