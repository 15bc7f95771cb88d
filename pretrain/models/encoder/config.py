"""What all encoders declare: attention in both directions, a masked-token head, and one table of parameters.

The head is a dense layer, an activation and a norm, then a decoder that is tied to the embedding and has a bias.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pretrain.models.parameter_table import Constant, Holder, ParameterSpec, Use
from pretrain.models.transformer_config import EMBEDDING, OUTPUT
from pretrain.models.width_scaling import WidthScaledConfig

PAIR_CLASSES = 2


class EncoderConfig(WidthScaledConfig):
    """An encoder. A subclass declares one family: it says what of the network below it has."""

    implementation: ClassVar[str] = "pretrain.models.encoder.network:EncoderFamily"
    is_causal: ClassVar[bool] = False
    head_matrices: ClassVar[tuple[str, ...]] = ("lm_head.dense.weight", "pooler.dense.weight")
    class_vectors: ClassVar[tuple[str, ...]] = ("output_layer.bias", "pair_head.bias")

    @property
    def has_embedding_norm(self) -> bool:
        """Whether the embedding ends with a norm."""
        return True

    @property
    def has_norm_bias(self) -> bool:
        """Whether norms have biases."""
        return self.normalization == "LayerNorm"

    @property
    def num_token_types(self) -> int:
        """Rows of the table of token types; 0: there is none."""
        return 0

    @property
    def rotary_bases(self) -> tuple[float, ...]:
        """Bases of the rotary frequencies of global and of local layers; empty: positions are learned."""
        return ()

    @property
    def head_activation(self) -> Literal["gelu", "gelu_tanh"]:
        """Activation of the masked-token head."""
        return "gelu"

    @property
    def head_std(self) -> float:
        """Standard deviation of the initial weights of the masked-token head's dense layer."""
        return self.init_std

    def has_attention_norm(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) has a norm at its attention."""
        return True

    def window(self, layer: int) -> int | None:
        """Tokens to either side that layer `layer` (from 0) sees; None: all."""
        return None

    def unscaled_parameters(self) -> Iterator[ParameterSpec]:
        """See the base class."""
        yield from self._embedding_parameters()
        for number in range(self.num_layers):
            yield from self.layer_parameters(
                number,
                "encoder",
                attention_norm=self.has_attention_norm(number),
                norm_bias=self.has_norm_bias,
            )
        if not self.is_post_norm:
            yield from self.norm_parameters("encoder.final_layernorm", "last", bias=self.has_norm_bias)
        yield from self._head_parameters()

    def _embedding_parameters(self) -> Iterator[ParameterSpec]:
        table, init = (self.padded_vocab_size, self.hidden_size), self.normal(self.init_std)
        yield ParameterSpec(EMBEDDING, table, "ends", init, tensor_axis=0, local_names=(OUTPUT,))
        for kind, rows in (("position", self.num_positions), ("tokentype", self.num_token_types)):
            if rows:
                name, shape = f"embedding.{kind}_embeddings.weight", (rows, self.hidden_size)
                yield ParameterSpec(name, shape, "first", init, use=Use.LOOKED_UP)
        if self.has_embedding_norm:
            yield from self.norm_parameters("embedding.norm", "first", bias=self.has_norm_bias)

    def _head_parameters(self) -> Iterator[ParameterSpec]:
        hidden, zeros = self.hidden_size, Constant(0.0)
        square = (hidden, hidden)
        # Under sequence parallelism each tensor rank runs the whole dense layer on its part of the sequence.
        yield ParameterSpec("lm_head.dense.weight", square, "last", self.normal(self.head_std), sequence_partial=True)
        if self.bias:
            yield ParameterSpec("lm_head.dense.bias", (hidden,), "last", zeros, decays=False, sequence_partial=True)
        yield from self.norm_parameters("lm_head.layer_norm", "last", bias=self.has_norm_bias)
        vocabulary = (self.padded_vocab_size,)
        yield ParameterSpec("output_layer.bias", vocabulary, "last", zeros, tensor_axis=0, decays=False)
        if self.has_pair_head:
            yield from self._once_per_sample("pooler.dense", square, "last")
            yield from self._once_per_sample("pair_head", (PAIR_CLASSES, hidden), "last")

    def _once_per_sample(self, name: str, shape: tuple[int, int], holder: Holder) -> Iterator[ParameterSpec]:
        use = Use.EACH_SAMPLE
        yield ParameterSpec(f"{name}.weight", shape, holder, self.normal(self.init_std), use=use)
        yield ParameterSpec(f"{name}.bias", shape[:1], holder, Constant(0.0), decays=False, use=use)
