"""How one tensor of ours maps to tensors of a transformers class, and the packings that differ between the two.

Pure functions of tensors. What differs, and where it is silent when missed:

- our `linear_qkv` is packed per query group `[q ... q, k, v]`; transformers has three matrices, or one with all
  queries first (GPT-2, ModernBERT);
- our gated `linear_fc1` is `[gate; up]`;
- GPT-2's `Conv1D` keeps its matrices transposed;
- our tables by token id have padded rows beyond the vocabulary, which transformers does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pretrain.config.model import ModelConfig
from pretrain.models.transformer_config import TransformerModelConfig

if TYPE_CHECKING:
    import torch

    Split = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    Join = Callable[[Sequence[torch.Tensor]], torch.Tensor]


PRESENT_NAMES = {"embed_out.weight": "lm_head.weight"}
"""What files and older releases of transformers call a tensor, and what the newest call it once it is loaded."""


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and the tensors of theirs that hold the same numbers.

    Attributes:
        ours: global name.
        theirs: names in the transformers class.
        split: our tensor -> theirs, in the order of `theirs`.
        join: theirs -> our tensor; also of tensors without memory (on the device `meta`), to find its shape.
        zeros_like: name of the matrix whose bias this is; where the model has none, zeros stand in. None: it has one.
        said_by: key of our model, true or false, of whether it has the tensor, where no field of their config says it:
            then the model has it where theirs are not zeros.
    """

    ours: str
    theirs: tuple[str, ...]
    split: Split
    join: Join
    zeros_like: str | None = None
    said_by: str | None = None


def same(ours: str, theirs: str) -> Rule:
    """The two tensors are equal."""
    return Rule(ours, (theirs,), one, first)


def linear(ours: str, theirs: str, *, bias: bool) -> list[Rule]:
    """Weight and, where there is one, bias of a matrix or a norm that are equal in both."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in parts_of(bias)]


def parts_of(bias: bool) -> tuple[str, ...]:
    """The names of the tensors of a layer."""
    return ("weight", "bias") if bias else ("weight",)


def vocabulary(ours: str, theirs: str, model: ModelConfig) -> Rule:
    """A table or a vector by token id: theirs lacks the padded rows, which are zero after an import."""

    def pad(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        if parts[0].shape[0] == model.padded_vocab_size:
            return parts[0]
        rows = parts[0].new_zeros(model.padded_vocab_size, *parts[0].shape[1:])
        rows[: parts[0].shape[0]] = parts[0]
        return rows

    return Rule(ours, (theirs,), lambda rows: (rows[: model.vocab_size],), pad)


def query_groups(model: TransformerModelConfig) -> tuple[Split, Join]:
    """Packed per group `[q ... q, k, v]` <-> (all queries, all keys, all values); rows first, any trailing shape."""
    groups, size = model.query_groups, model.head_size
    queries = model.num_attention_heads // groups

    def split(packed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = packed.shape[1:]
        grouped = packed.reshape(groups, queries + 2, size, *rest)
        parts = grouped[:, :queries], grouped[:, queries : queries + 1], grouped[:, queries + 1 :]
        return tuple(part.reshape(-1, *rest) for part in parts)

    def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        rest = parts[0].shape[1:]
        grouped = [part.reshape(groups, -1, size, *rest) for part in parts]
        return _concatenate(grouped, 1).reshape(-1, *rest)

    return split, join


def keys_and_values(model: TransformerModelConfig) -> tuple[Split, Join]:
    """Packed per head `[k, v]`, as an attention on another text has it, <-> (all keys, all values)."""
    heads, size = model.num_attention_heads, model.head_size

    def split(packed: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = packed.shape[1:]
        return tuple(part.reshape(-1, *rest) for part in packed.reshape(heads, 2, size, *rest).unbind(1))

    def join(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        rest = parts[0].shape[1:]
        return _concatenate([part.reshape(heads, 1, size, *rest) for part in parts], 1).reshape(-1, *rest)

    return split, join


def stacked_query_groups(model: TransformerModelConfig) -> tuple[Split, Join]:
    """Packed per group <-> one tensor of all queries, then all keys, then all values; as many groups as heads."""
    split, join = query_groups(model)
    return lambda packed: (cat(split(packed)),), lambda parts: join(parts[0].chunk(3))


def blocks(count: int) -> tuple[Split, Join]:
    """One tensor <-> its equal parts along axis 0."""
    return lambda tensor: tensor.chunk(count), cat


def transposed(split: Split, join: Join) -> tuple[Split, Join]:
    """The same, where theirs are transposed."""

    def split_transposed(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(part.t().contiguous() for part in split(tensor))

    def join_transposed(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        return join([part.t().contiguous() for part in parts])

    return split_transposed, join_transposed


def one(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Theirs is ours."""
    return (tensor,)


def first(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Ours is theirs."""
    return parts[0]


def cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """The parts one below the other."""
    return _concatenate(parts, 0)


def _concatenate(parts: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    import torch

    return torch.cat(list(parts), axis)
