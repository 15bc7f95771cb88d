"""What the configs of transformers have in common: token ids by role, spellings of activations, features to refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.errors import DataError


@dataclass(frozen=True)
class RoleIds:
    """Token ids that a Hugging Face config names; None: the tokenizer has no such token."""

    end_of_document: int | None = None
    begin_of_document: int | None = None
    pad: int | None = None
    mask: int | None = None
    classification: int | None = None
    separator: int | None = None

    def known(self) -> list[int]:
        """All that there are, each once, sorted."""
        return sorted({number for number in vars(self).values() if number is not None})

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> RoleIds:
        """The ids that a config names."""
        keys = {"end_of_document": "eos", "begin_of_document": "bos", "pad": "pad", "mask": "mask"}
        keys |= {"classification": "cls", "separator": "sep"}
        found = {role: fields.get(f"{name}_token_id") for role, name in keys.items()}
        return cls(**{role: number if isinstance(number, int) else None for role, number in found.items()})


NO_IDS = RoleIds()
"""Of no tokenizer."""


def refuse_features(fields: Mapping[str, Any], where: Path | str, **plain: Any) -> None:
    """Refuse fields of a config that are neither missing nor what they have to be, `plain`.

    Raises:
        DataError: names the first.
    """
    for field, value in plain.items():
        if fields.get(field, value) != value:
            raise DataError(
                f"{field} is {fields[field]!r}, which our model does not have", where=where, expected=f"{value!r}"
            )


def our_activation(name: str, theirs: Mapping[str, str], where: Path | str) -> str:
    """Our name of an activation.

    Args:
        name: transformers' name.
        theirs: transformers' names by ours; other spellings of the same function count too.
        where: names the source in errors.

    Raises:
        DataError: the model has no such activation.
    """
    same = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
    for ours, spelling in theirs.items():
        if same.get(name, name) == same.get(spelling, spelling):
            return ours
    raise DataError(f"activation is {name!r}", where=where, expected=" or ".join(theirs.values()))


def older_spellings(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a `config.json` under the names where readers older than transformers 5 look for them.

    Such a reader takes the default of a field that it does not find, without a word.
    """
    older = {"torch_dtype": fields["dtype"]} if "dtype" in fields else {}
    if fields.get("scale_decoder_outputs") is False:  # T5, which says that it is tied in any case since transformers 5
        older["tie_word_embeddings"] = False
    if fields.get("model_type") == "gemma2" and fields.get("attn_logit_softcapping") is not None:
        # Their gemma2 computes with torch's attention where nothing is said, which knows no cap and leaves it out.
        older["_attn_implementation"] = "eager"
    rope = fields.get("rope_parameters")
    if not isinstance(rope, Mapping):
        return older
    if "rope_theta" in rope:
        older["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            older["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
        if "partial_rotary_factor" in rope:
            older |= dict.fromkeys(("partial_rotary_factor", "rotary_pct"), rope["partial_rotary_factor"])
        if fields.get("model_type") == "gpt_neox":
            older["rotary_emb_base"] = rope["rope_theta"]
    elif fields.get("model_type") == "gemma3_text":
        near, far = rope["sliding_attention"], rope["full_attention"]
        older |= {"rope_theta": far["rope_theta"], "rope_local_base_freq": near["rope_theta"]}
        if far.get("rope_type", "default") != "default":
            older["rope_scaling"] = {key: value for key, value in far.items() if key != "rope_theta"}
    elif {"full_attention", "sliding_attention"} <= set(rope) and "layer_types" in fields:
        kinds = fields["layer_types"]
        every = next((layer for layer in range(1, len(kinds)) if kinds[layer] == kinds[0]), len(kinds))
        older |= {
            "global_attn_every_n_layers": every,
            "global_rope_theta": rope["full_attention"]["rope_theta"],
            "local_rope_theta": rope["sliding_attention"]["rope_theta"],
        }
    return older
