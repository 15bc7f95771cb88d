"""Rotary positions and local layers in the configs of transformers, both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from configs.errors import DataError
from pretrain.models.gpt.attention_config import RotaryScaling
from pretrain.models.gpt.config import GPTConfig

GLOBAL, LOCAL = "full_attention", "sliding_attention"


def rope_parameters(model: GPTConfig, rotation: int = 0) -> dict[str, Any]:
    """The field `rope_parameters`, or its part for one kind of layer.

    Args:
        model: ours.
        rotation: number of the kind, as in its `rotations`.
    """
    base, scaling = model.rotations[rotation]
    fields: dict[str, Any] = {"rope_type": scaling.kind if scaling else "default", "rope_theta": base}
    if scaling is not None:
        fields["factor"] = scaling.factor
        if scaling.kind != "linear":
            fields["original_max_position_embeddings"] = scaling.original_seq_length
        if scaling.kind == "llama3":
            fields |= {"low_freq_factor": scaling.low_freq_factor, "high_freq_factor": scaling.high_freq_factor}
        if scaling.kind == "yarn":
            fields |= {"beta_fast": scaling.beta_fast, "beta_slow": scaling.beta_slow}
            fields["attention_factor"] = scaling.query_and_key_factor
    if model.rotary_percent != 1.0:
        fields["partial_rotary_factor"] = model.rotary_percent
    return fields


def our_scaling(rope: Mapping[str, Any], where: Path | str) -> RotaryScaling | None:
    """The scaling that `rope_parameters` say.

    Raises:
        DataError: it is of a kind that ours does not have.
    """
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind == "default":
        return None
    if kind not in ("linear", "yarn", "llama3") or not rope.get("truncate", True):
        raise DataError(
            f"rope_parameters is {dict(rope)}", where=where, expected="rope_type default, linear, yarn or llama3"
        )
    given: dict[str, Any] = {"kind": kind, "factor": rope["factor"]}
    if kind != "linear":
        given["original_seq_length"] = rope["original_max_position_embeddings"]
    if kind == "llama3":
        given |= {key: rope[key] for key in ("low_freq_factor", "high_freq_factor")}
    if kind == "yarn":
        given |= {key: rope[key] for key in ("beta_fast", "beta_slow") if rope.get(key)}
        given["attention_factor"] = _attention_factor(rope)
    return RotaryScaling(**given)


def _attention_factor(rope: Mapping[str, Any]) -> float | None:
    """What multiplies queries and keys; None: what follows from the factor alone."""
    usual = RotaryScaling(kind="yarn", factor=rope["factor"], original_seq_length=1).query_and_key_factor
    given = rope.get("attention_factor")
    if given is None and rope.get("mscale") and rope.get("mscale_all_dim"):
        # transformers/modeling_rope_utils.py (_compute_yarn_parameters): DeepSeek's ratio of two of them.
        over, under = (1 + (usual - 1) * rope[key] for key in ("mscale", "mscale_all_dim"))
        given = over / under
    return None if given is None or given == usual else float(given)


def layer_types(model: GPTConfig) -> list[str]:
    """The field `layer_types`."""
    return [LOCAL if model.is_local(layer) else GLOBAL for layer in range(model.num_layers)]


def our_windows(fields: Mapping[str, Any], where: Path | str) -> dict[str, Any]:
    """`sliding_window` and `global_every` of ours.

    Raises:
        DataError: the local layers stand as ours cannot.
    """
    window: int | None = fields.get("sliding_window")
    kinds: Sequence[str] | None = fields.get("layer_types")
    if window is None or (kinds is not None and LOCAL not in kinds):
        return {"sliding_window": None, "global_every": None}
    if kinds is None or GLOBAL not in kinds:
        return {"sliding_window": window, "global_every": None}
    every = list(kinds).index(GLOBAL) + 1
    if every == 1 or any((kind == GLOBAL) != ((layer + 1) % every == 0) for layer, kind in enumerate(kinds)):
        raise DataError(
            f"layer_types is {list(kinds)}", where=where, expected=f"{GLOBAL} at the last of every so many layers"
        )
    return {"sliding_window": window, "global_every": every}
