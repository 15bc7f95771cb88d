"""What every model family declares: its sizes, its table of parameters, its problems with a layout."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from configs.kinds import Named
from pretrain.models.parameter_table import ParameterSpec, Use


class ModelConfig(Named):
    """A network. A subclass declares one family, with the keys that only it has."""

    is_causal: ClassVar[bool] = True
    """Whether a position sees only what comes before it."""
    is_encoder_decoder: ClassVar[bool] = False
    """Whether a decoder writes a target beside the text that an encoder reads."""
    sees_prefixes: ClassVar[bool] = False
    """Whether a causal model lets the tokens of a prefix see each other where a batch has one; see `PREFIX_LENGTHS`."""
    token_embedding: ClassVar[str | None] = None
    """Name of the module that looks tokens up on the first stage; None: there is none, or the family does not say."""
    adaptable: ClassVar[tuple[str, ...]] = ()
    """Names of the linear layers of its layers that a low-rank adapter can stand beside; empty: the family has none."""
    huggingface: ClassVar[tuple[str, ...]] = ()
    """Candidates for what computes the same in Hugging Face's transformers, the nearest first: names that
    `pretrain.models.huggingface.family` knows, or `module:Class`."""

    roles: ClassVar[tuple[str, ...]] = ()
    """Roles of special tokens that the tokenizer must have, such as `pad`."""
    drawing_keys: ClassVar[frozenset[str]] = frozenset({"init_std"})
    """Keys that decide initial values alone, and nothing once there are weights."""
    dropout_keys: ClassVar[frozenset[str]] = frozenset()
    """Keys of the dropouts: training reads them, and what given weights compute does not depend on them."""

    num_layers: int = Field(gt=0, examples=[12])
    """Layers, over all pipeline stages."""
    hidden_size: int = Field(gt=0, examples=[768])
    """Width of the residual stream."""
    seq_length: int = Field(gt=0, examples=[1024])
    """Tokens in one sample; also the longest position that the model knows."""
    init_std: float = Field(default=0.02, gt=0)
    """Standard deviation of the initial weights; residual outputs may get less, see the family."""
    vocab_size: int | None = Field(default=None, gt=0)
    """Token ids that the model knows; null: taken from the corpus' tokenizer when the run starts."""
    vocab_multiple: int = Field(default=128, gt=0)
    """The embedding is padded to a multiple of this; fixed per run, never derived from the layout."""

    @property
    def has_pair_head(self) -> bool:
        """Whether a head tells pairs of texts apart."""
        return False

    @property
    def is_width_scaled(self) -> bool:
        """Whether initial values and rates were chosen for a narrower model, and follow from its width (muP)."""
        return False

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding.

        Raises:
            ValueError: while `vocab_size` is null.
        """
        if self.vocab_size is None:
            raise ValueError("vocab_size is not known yet")
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple

    def notes(self) -> list[str]:
        """What of the network is other than one may think, a sentence each, to be shown once."""
        return []

    @abstractmethod
    def parameters(self) -> Iterator[ParameterSpec]:
        """Every parameter, tied ones once: the one table that initialisation, sharding, counts and checks read."""

    def layout_problems(self, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """Why this model cannot be spread over axes of these sizes, a sentence each.

        Args:
            sizes: of the parallel axes by name, such as {"tensor": 2, "pipeline": 1, "data": 4}.
            sequence_parallel: whether norms and dropouts are split along the sequence.
        """
        divisible = [
            ("model.vocab_multiple", self.vocab_multiple, "tensor"),
            ("model.num_layers", self.num_layers, "pipeline"),
        ]
        if sequence_parallel:
            divisible.append(("model.seq_length", self.seq_length, "tensor"))
        return indivisible(divisible, sizes)

    def attention_flops_per_token(self) -> float:
        """Floating-point operations of attention scores and sums for one trained token; 0 without attention."""
        return 0.0

    def num_parameters(self) -> int:
        """How many weights the model has (tied ones once; padded vocabulary rows counted)."""
        return sum(spec.elements for spec in self.parameters())

    def flops_per_token(self) -> float:
        """Floating-point operations that one trained token needs: 6 N + attention, recompute excluded.

        N counts the weights that enter a matrix product or are added at every token; tables that are only looked up
        count nothing, and what runs once per sample counts its share.
        """
        share = {Use.EACH_TOKEN: 1.0, Use.LOOKED_UP: 0.0, Use.EACH_SAMPLE: 1.0 / self.seq_length}
        return 6 * sum(spec.elements * share[spec.use] for spec in self.parameters()) + self.attention_flops_per_token()


def indivisible(needed: list[tuple[str, int, str]], sizes: Mapping[str, int]) -> list[str]:
    """A sentence for each (key, value, axis) whose value is not a multiple of the axis' size."""
    return [
        f"{key} {value} is not a multiple of the {axis} size {sizes[axis]}"
        for key, value, axis in needed
        if value % sizes[axis]
    ]
