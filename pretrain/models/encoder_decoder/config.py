"""What all encoder-decoders declare: two stacks, two lengths, and one table of parameters.

Megatron-core has no pipelines for two stacks any more, so all of it is on one stage. The decoder's layers are numbered
after the encoder's.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from pretrain.config.model import indivisible
from pretrain.models.parameter_table import Constant, Normal, NormalByRows, ParameterSpec, Use
from pretrain.models.transformer_config import EMBEDDING, OUTPUT, TransformerModelConfig

STACKS = ("encoder", "decoder")


@dataclass(frozen=True)
class InitialStds:
    """Standard deviations of the initial weights.

    Attributes:
        embedding: of the tokens, and of positions.
        query: matrices that make queries.
        key_value: matrices that make keys and values.
        attention_output: matrices after an attention.
        ffn_in: the MLP's first matrix.
        ffn_out: the MLP's second matrix.
        relative_bias: tables of relative positions.
        output: the output layer, where it is not the embedding.
    """

    embedding: float
    query: float
    key_value: float
    attention_output: float
    ffn_in: float
    ffn_out: float
    relative_bias: float
    output: float


class EncoderDecoderConfig(TransformerModelConfig):
    """An encoder-decoder. A subclass declares one family: it says what of the network below it has."""

    implementation: ClassVar[str] = "pretrain.models.encoder_decoder.network:EncoderDecoderFamily"
    is_causal: ClassVar[bool] = False
    is_encoder_decoder: ClassVar[bool] = True
    dropout_keys: ClassVar[frozenset[str]] = TransformerModelConfig.dropout_keys | {"activation_dropout"}
    decoder_start_role: ClassVar[str] = "pad"
    """Role of the token that the decoder reads first."""

    num_decoder_layers: int | None = Field(default=None, gt=0)
    """Layers of the decoder; null: as many as num_layers, which the encoder has."""
    decoder_seq_length: int | None = Field(default=None, gt=0)
    """Tokens that the decoder reads in one sample; null: as many as seq_length, which the encoder reads."""
    activation_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropping an element inside the MLP, after its activation."""

    @property
    def decoder_layers(self) -> int:
        """Layers of the decoder."""
        return self.num_decoder_layers or self.num_layers

    @property
    def target_length(self) -> int:
        """Tokens that the decoder reads in one sample."""
        return self.decoder_seq_length or self.seq_length

    @property
    def inner_size(self) -> int:
        """Width of all heads of an attention together."""
        return self.num_attention_heads * self.head_size

    @property
    def ties_output(self) -> bool:
        """Whether the output layer is the embedding."""
        return True

    @property
    def has_output_bias(self) -> bool:
        """Whether a bias is added to the logits."""
        return False

    @property
    def output_scale(self) -> float:
        """What the decoder's last hidden state is multiplied by before the output layer."""
        return 1.0

    @property
    def embedding_scale(self) -> float:
        """What the tokens' vectors are multiplied by."""
        return 1.0

    @property
    def softmax_scale(self) -> float | None:
        """What attention scores are multiplied by; None: 1 / sqrt(head size)."""
        return None

    @property
    def has_embedding_norm(self) -> bool:
        """Whether each stack's embedding ends with a norm."""
        return False

    @property
    def drops_output(self) -> bool:
        """Whether dropout is applied to what each stack gives."""
        return False

    @property
    def bias_buckets(self) -> int:
        """Rows of each stack's table of relative positions, whose values are added to attention scores; 0: none."""
        return 0

    @property
    def bias_max_distance(self) -> int:
        """Tokens from which on all distances have one row of these tables."""
        return 0

    @property
    @abstractmethod
    def stds(self) -> InitialStds:
        """Standard deviations of the initial weights."""

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        own = {"num_decoder_layers": self.decoder_layers, "decoder_seq_length": self.target_length}
        return super().resolved() | own

    def layout_problems(self, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """See the base class."""
        found = super().layout_problems({**sizes, "pipeline": 1}, sequence_parallel=sequence_parallel)
        if sequence_parallel:
            found += indivisible([("model.decoder_seq_length", self.target_length, "tensor")], sizes)
        if sizes["pipeline"] > 1:
            found.append(
                f"model.name={self.name} is an encoder-decoder, which is not cut into pipeline stages:"
                f" parallel.pipeline_size is {sizes['pipeline']}, expected 1"
            )
        return found

    def attention_flops_per_token(self) -> float:
        """12 d T for each attention of a token: the encoder's, the decoder's own and the one on the encoder.

        Per token that the encoder reads, as `flops_per_token`.
        """
        source, target = self.seq_length, self.target_length
        pairs = self.num_layers * source**2 + self.decoder_layers * (target**2 + target * source)
        return 12.0 * self.inner_size * pairs / source

    def flops_per_token(self) -> float:
        """Operations for one token that the encoder reads, its share of the decoder's with them.

        See the base class. A weight of the decoder takes part once for each of its tokens, but for those that make keys
        and values of what the encoder gives.
        """
        share = self.target_length / self.seq_length
        weights = 0.0
        for spec in self.parameters():
            reads_encoder = not spec.name.startswith(("decoder.", "embedding.", "output_layer."))
            if spec.use is Use.EACH_TOKEN:
                weights += spec.elements * (1.0 if reads_encoder or "cross_attention.linear_kv" in spec.name else share)
        return 6 * weights + self.attention_flops_per_token()

    def parameters(self) -> Iterator[ParameterSpec]:
        """See the base class; in the order of the network."""
        table, stds = (self.padded_vocab_size, self.hidden_size), self.stds
        use = Use.EACH_TOKEN if self.ties_output else Use.LOOKED_UP
        yield ParameterSpec(EMBEDDING, table, "first", self.normal(stds.embedding), tensor_axis=0, use=use)
        for stack, layers in zip(STACKS, (self.num_layers, self.decoder_layers)):
            yield from self._stack_parameters(stack, layers)
        if not self.ties_output:
            yield ParameterSpec(OUTPUT, table, "first", self.normal(stds.output), tensor_axis=0)
        if self.has_output_bias:
            zeros = Constant(0.0)
            yield ParameterSpec("output_layer.bias", table[:1], "first", zeros, tensor_axis=0, decays=False)

    def _stack_parameters(self, stack: str, layers: int) -> Iterator[ParameterSpec]:
        if self.num_positions:
            name, shape = f"embedding.{stack}.position_embeddings.weight", (self.num_positions, self.hidden_size)
            yield ParameterSpec(name, shape, "first", self.normal(self.stds.embedding), use=Use.LOOKED_UP)
        if self.has_embedding_norm:
            yield from self.norm_parameters(f"embedding.{stack}.norm", "first")
        if self.bias_buckets:
            # Each tensor rank has the columns of its own heads, so its gradient is whole.
            name, shape = f"{stack}_relative_bias.table.weight", (self.bias_buckets, self.num_attention_heads)
            init = self.normal(self.stds.relative_bias)
            yield ParameterSpec(name, shape, "first", init, tensor_axis=1, decays=False, use=Use.LOOKED_UP)
        is_decoder = stack == "decoder"
        for number in range(layers):
            place = number + (self.num_layers if is_decoder else 0)
            yield from self._layer(f"{stack}.layers.{number}.", place, has_cross_attention=is_decoder)
        if not self.is_post_norm:
            yield from self.norm_parameters(f"{stack}.final_layernorm", "first")

    def _layer(self, layer: str, place: int, *, has_cross_attention: bool) -> Iterator[ParameterSpec]:
        stds, hidden, inner = self.stds, self.hidden_size, self.inner_size
        outer = self.normal(stds.attention_output)
        qkv = self._packed(stds.query, stds.key_value, stds.key_value)
        yield from self.norm_parameters(f"{layer}input_layernorm", place)
        head = (self.head_size,)
        yield from self._linear(
            f"{layer}self_attention.linear_qkv", (3 * inner, hidden), place, qkv, axis=0, rows=3 * head
        )
        yield from self._linear(f"{layer}self_attention.linear_proj", (hidden, inner), place, outer, axis=1)
        if has_cross_attention:
            cross, query = f"{layer}cross_attention.", self.normal(stds.query)
            key_value = self.normal(stds.key_value)
            yield from self.norm_parameters(f"{layer}pre_cross_attn_layernorm", place)
            yield from self._linear(f"{cross}linear_q", (inner, hidden), place, query, axis=0)
            yield from self._linear(f"{cross}linear_kv", (2 * inner, hidden), place, key_value, axis=0, rows=2 * head)
            yield from self._linear(f"{cross}linear_proj", (hidden, inner), place, outer, axis=1)
        yield from self.norm_parameters(f"{layer}pre_mlp_layernorm", place)
        yield from self.mlp_parameters(layer, place, self.normal(stds.ffn_in), self.normal(stds.ffn_out))

    def _packed(self, *stds: float) -> Normal:
        """Initial values of a matrix that has for each head the rows of several, such as `[q, k, v]`."""
        if len(set(stds)) == 1:
            return self.normal(stds[0])
        return NormalByRows(stds[0], self.init_cutoff, run_rows=self.head_size, run_stds=stds)
