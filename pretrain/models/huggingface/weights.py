"""Tensor for tensor: our checkpoint's global names and packings <-> those of the transformers classes.

Pure functions of tensors. What differs between the two worlds, and where it is silent when missed:

- our `linear_qkv` is packed per query group `[q ... q, k, v]`; transformers has three matrices, or (GPT-2) one with all
  queries first;
- our gated `linear_fc1` is `[gate; up]`;
- GPT-2's `Conv1D` keeps its matrices transposed and always has biases (zeros where ours has none);
- our embedding has padded rows beyond the vocabulary, which transformers does not need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.errors import CheckpointError
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.families import family_of

if TYPE_CHECKING:
    import torch

    Split = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]
    Join = Callable[[Sequence[torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """One tensor of ours and the tensors of theirs that hold the same numbers."""

    ours: str
    theirs: tuple[str, ...]
    split: Split
    """Our tensor -> theirs, in the order of `theirs`."""
    join: Join
    """Theirs -> our tensor."""
    zeros: tuple[int, ...] | None = None
    """Shape of the zeros that stand in for our tensor where the model has none (GPT-2's biases)."""


def to_hf(tensors: Mapping[str, torch.Tensor], model: GPTConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (transformers name, tensor) for a causal language model, one tensor of ours read at a time.

    Args:
        tensors: global name -> tensor with its global shape; may read lazily.
        model: what the tensors belong to.

    Raises:
        ConfigError: if transformers has no such architecture.
        CheckpointError: a tensor is missing, left over or of another shape than `model` says.
    """
    rules = rules_of(model)
    known = {rule.ours for rule in rules}
    for name in sorted(set(tensors) - known):
        raise CheckpointError(f"holds the tensor {name}, which the model in its metadata does not have", where=name)
    shapes = {spec.name: spec.shape for spec in model.parameters()}
    for rule in rules:
        if rule.zeros is not None and rule.ours not in tensors:
            import torch

            yield from zip(rule.theirs, rule.split(torch.zeros(rule.zeros)))
            continue
        if rule.ours not in tensors:
            raise CheckpointError("is missing from the checkpoint", where=rule.ours)
        tensor = tensors[rule.ours]
        if tuple(tensor.shape) != shapes[rule.ours]:
            raise CheckpointError(
                f"has shape {tuple(tensor.shape)}", where=rule.ours, expected=f"{shapes[rule.ours]} by the model config"
            )
        yield from zip(rule.theirs, rule.split(tensor))


def from_hf(tensors: Mapping[str, torch.Tensor], model: GPTConfig) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (our global name, tensor) from a transformers causal language model's state dict.

    Rows of the vocabulary beyond `vocab_size` are zero.

    Raises:
        ConfigError: if `model` has no counterpart.
        CheckpointError: a tensor is missing.
    """
    for rule in rules_of(model):
        if rule.zeros is not None:  # the model has no such bias: accept only that nothing is lost
            if any(bool(tensors[name].any()) for name in rule.theirs if name in tensors):
                raise CheckpointError("is not zero, but the model config has bias=false", where=rule.theirs[0])
            continue
        missing = [name for name in rule.theirs if name not in tensors]
        if missing:
            raise CheckpointError("is missing from the transformers model", where=missing[0])
        yield rule.ours, rule.join([tensors[name] for name in rule.theirs])


def rules_of(model: GPTConfig) -> list[Rule]:
    """How each tensor of `model` maps, in the order of the network.

    Raises:
        ConfigError: if transformers has no such architecture.
    """
    family = family_of(model)
    base = "transformer." if family == "gpt2" else "model."
    embeddings = ("wte", "wpe") if family == "gpt2" else ("embed_tokens", "")
    rules = [_vocabulary("embedding.word_embeddings.weight", f"{base}{embeddings[0]}.weight", model)]
    if family == "gpt2":
        rules.append(_same("embedding.position_embeddings.weight", f"{base}{embeddings[1]}.weight"))
    for number in range(model.num_layers):
        ours = f"decoder.layers.{number}."
        rules += _gpt2_layer(ours, f"{base}h.{number}.", model) if family == "gpt2" else []
        rules += _rotary_layer(ours, f"{base}layers.{number}.", model) if family != "gpt2" else []
    final = "ln_f" if family == "gpt2" else "norm"
    rules += _norm("decoder.final_layernorm", base + final, model)
    if not model.tie_embeddings:
        rules.append(_vocabulary("output_layer.weight", "lm_head.weight", model))
    return rules


def _rotary_layer(ours: str, theirs: str, model: GPTConfig) -> list[Rule]:
    rules = _norm(f"{ours}input_layernorm", f"{theirs}input_layernorm", model)
    rules += _norm(f"{ours}pre_mlp_layernorm", f"{theirs}post_attention_layernorm", model)
    gated = model.activation == "swiglu"
    fc1, fc2 = (("gate_proj", "up_proj"), "down_proj") if gated else (("c_fc",), "c_proj")
    for part in ("weight", "bias") if model.bias else ("weight",):
        qkv = tuple(f"{theirs}self_attn.{x}_proj.{part}" for x in "qkv")
        rules.append(Rule(f"{ours}self_attention.linear_qkv.{part}", qkv, *_query_groups(model)))
        rules.append(_same(f"{ours}self_attention.linear_proj.{part}", f"{theirs}self_attn.o_proj.{part}"))
        inner = tuple(f"{theirs}mlp.{name}.{part}" for name in fc1)
        rules.append(Rule(f"{ours}mlp.linear_fc1.{part}", inner, *_blocks(len(inner))))
        rules.append(_same(f"{ours}mlp.linear_fc2.{part}", f"{theirs}mlp.{fc2}.{part}"))
    return rules


def _gpt2_layer(ours: str, theirs: str, model: GPTConfig) -> list[Rule]:
    rules = _norm(f"{ours}input_layernorm", f"{theirs}ln_1", model)
    rules += _norm(f"{ours}pre_mlp_layernorm", f"{theirs}ln_2", model)
    split, join = _query_groups(model)
    pairs: dict[str, tuple[str, Split, Join, int]] = {
        "self_attention.linear_qkv": (
            "attn.c_attn",
            _after(split, _cat),
            _before(_thirds, join),
            3 * model.hidden_size,
        ),
        "self_attention.linear_proj": ("attn.c_proj", _one, _first, model.hidden_size),
        "mlp.linear_fc1": ("mlp.c_fc", _one, _first, model.ffn_size),
        "mlp.linear_fc2": ("mlp.c_proj", _one, _first, model.hidden_size),
    }
    for name, (hf_name, forth, back, width) in pairs.items():
        weight = Rule(f"{ours}{name}.weight", (f"{theirs}{hf_name}.weight",), _transposed(forth), _untransposed(back))
        zeros = None if model.bias else (width,)
        rules += [weight, Rule(f"{ours}{name}.bias", (f"{theirs}{hf_name}.bias",), forth, back, zeros)]
    return rules


def _norm(ours: str, theirs: str, model: GPTConfig) -> list[Rule]:
    parts = ("weight", "bias") if model.normalization == "LayerNorm" else ("weight",)
    return [_same(f"{ours}.{part}", f"{theirs}.{part}") for part in parts]


def _same(ours: str, theirs: str) -> Rule:
    return Rule(ours, (theirs,), _one, _first)


def _vocabulary(ours: str, theirs: str, model: GPTConfig) -> Rule:
    def pad(parts: Sequence[torch.Tensor]) -> torch.Tensor:
        rows = parts[0].new_zeros(model.padded_vocab_size, parts[0].shape[1])
        rows[: parts[0].shape[0]] = parts[0]
        return rows

    return Rule(ours, (theirs,), lambda rows: (rows[: model.vocab_size],), pad)


def _query_groups(model: GPTConfig) -> tuple[Split, Join]:
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


def _blocks(count: int) -> tuple[Split, Join]:
    return lambda tensor: tensor.chunk(count), _cat


def _concatenate(parts: Sequence[torch.Tensor], axis: int) -> torch.Tensor:
    import torch

    return torch.cat(list(parts), axis)


def _cat(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return _concatenate(parts, 0)


def _thirds(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.chunk(3)


def _one(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (tensor,)


def _first(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    return parts[0]


def _after(split: Split, cat: Join) -> Split:
    return lambda tensor: (cat(split(tensor)),)


def _before(split: Split, join: Join) -> Join:
    return lambda parts: join(split(parts[0]))


def _transposed(split: Split) -> Split:
    return lambda tensor: tuple(part.t().contiguous() for part in split(tensor))


def _untransposed(join: Join) -> Join:
    return lambda parts: join([part.t().contiguous() for part in parts])
