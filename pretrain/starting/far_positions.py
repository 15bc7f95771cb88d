"""What two readings of a config differ in far from the beginning of a row alone: slow rotary angles, wide windows.

The weights of a directory are compared on short rows, as their number asks for. How far a token sees, and how slowly
angles turn, is in the config and not in the weights: rotary frequencies are compared as numbers, and the rest on long
rows by a small model, with random weights, whose config differs from the directory's in its widths and depth alone.

Shape letters: F rotary frequencies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.config.model import ModelConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.gpt.attention_config import DecoderAttentionConfig
from pretrain.models.huggingface.logit_check import check_rows, compare
from pretrain.models.huggingface.transformers_model import model_from_tensors
from pretrain.models.parameter_table import Constant, ParameterSpec

if TYPE_CHECKING:
    import torch

    from pretrain.models.huggingface.logit_check import Reference
    from pretrain.starting.huggingface_source import HuggingFaceSource

_LONGEST = 4096 + 64
"""Tokens of a long row: some more than the windows of published models have. Attention takes time and memory with their
square."""
_FREQUENCY_TOLERANCE = 1e-5
FAR_TOLERANCE = 2e-3
"""Of logits on a long row, where fp32's rounding of a frequency is multiplied by the position: at 4,160 tokens equal
models differ by up to 2.6e-4 (ModernBERT), and one whose window is wrong by one token by 1.7e-2 (Gemma 2) or more."""
_IDS, _FFN, _SEED = 64, 64, 0
_QUERY_KEY_GAIN = 1.5
"""Larger than usual weights, so that attention is not nearly uniform, and a token more or less shows."""

_Windowed = DecoderAttentionConfig | ModernEncoderConfig


def _compare_frequencies(source: HuggingFaceSource, small: _Windowed, theirs: Any) -> None:
    """Find each vector of our rotary frequencies among those of the transformers model."""
    import torch

    known = {
        name: buffer.float().flatten()
        for name, buffer in theirs.named_buffers()
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq")
    }
    if not known:
        return
    for ours_F in _frequencies(small):
        same = [found for found in known.values() if found.shape == ours_F.shape]
        if any(torch.allclose(found, ours_F, rtol=_FREQUENCY_TOLERANCE, atol=0.0) for found in same):
            continue
        nearest = min((float((found / ours_F - 1).abs().max()) for found in same), default=float("inf"))
        raise CheckpointError(
            f"our rotary frequencies are not those of transformers' {type(theirs).__name__}: of the nearest, one"
            f" differs by a factor of up to {1 + nearest:.4g}; nothing was trained",
            where=f"start_from = {source.path}",
            expected="the same to 1e-5. Its config has something of its rotary positions that ours does not read:"
            " please report it. start_from_options.check_logits=false trains all the same",
        )


def compare_far(source: HuggingFaceSource, shortest: int, reference: Reference | None = None) -> str | None:
    """Compare rotary frequencies, and small models of both configs on a row that is longer than a window.

    Args:
        source: the directory.
        shortest: tokens of the rows that were compared already.
        reference: our model; None: megatron-core's, as it is trained.

    Returns:
        what was found, a sentence; None: its samples are no longer than that, or tell no position by an angle.

    Raises:
        CheckpointError: a frequency is not among theirs, or the logits differ by more than 2e-3.
    """
    model = source.model
    rotary = not isinstance(model, DecoderAttentionConfig) or model.position_embedding == "rope"
    if not isinstance(model, _Windowed) or not rotary:
        return None
    small = small_model(model)
    tensors = _random_tensors(small)
    theirs = model_from_tensors(_small_fields(source, small), dict(_their_tensors(source, small, tensors)))
    _compare_frequencies(source, small, theirs)
    if model.seq_length <= shortest:
        return None
    length, unseen = row_length(model)
    rows = check_rows(small.model_copy(update={"seq_length": length}), [], 1, _SEED)
    agreement = compare(small, tensors, theirs, rows, reference)
    if not agreement.largest_difference <= FAR_TOLERANCE:
        raise CheckpointError(
            f"is read otherwise by our model than by transformers: small models of its config, with the same random"
            f" weights, differ by {agreement.largest_difference:.3g} in logits of {length} tokens; nothing was trained",
            where=f"start_from = {source.path}",
            expected=f"at most {FAR_TOLERANCE:g}. How far its layers see, or how its positions turn, is something that"
            " ours does not read: please report it. start_from_options.check_logits=false trains all the same",
        )
    told = f"; its window of {unseen} tokens is longer, and was not compared" if unseen else ""
    return (
        f"rotary frequencies are equal, and small models of its config, with random weights, agree on {length} tokens:"
        f" largest difference {agreement.largest_difference:.1e} (allowed {FAR_TOLERANCE:.0e}){told}"
    )


def row_length(model: _Windowed) -> tuple[int, int | None]:
    """Tokens of a row on which windows show, and a window that is too long for it; None: there is none."""
    windows = [window for layer in range(model.num_layers) if (window := model.window(layer)) is not None]
    widest = max(windows, default=0) + 1
    length = min(_LONGEST, model.seq_length)
    return length, widest if widest >= length and widest < model.seq_length else None


def small_model(model: _Windowed) -> _Windowed:
    """The model with one or two heads, of their size, and with as few layers as show each kind of them."""
    changed: dict[str, Any] = {"vocab_size": _IDS, "vocab_multiple": _IDS, "ffn_hidden_size": _FFN}
    groups = 1 if model.query_groups < model.num_attention_heads else min(2, model.num_attention_heads)
    heads = groups * min(2, model.num_attention_heads // model.query_groups)
    changed |= {"num_attention_heads": heads, "hidden_size": heads * model.head_size}
    if getattr(model, "num_query_groups", None) is not None:
        changed["num_query_groups"] = groups
    kinds = [model.window(layer) is None for layer in range(model.num_layers)]
    changed["num_layers"] = 1 + max(kinds.index(kind) for kind in set(kinds))
    return model.model_copy(update=changed)


def their_fields(source: HuggingFaceSource, model: ModelConfig) -> dict[str, Any]:
    """The directory's config for a `model` of other sizes than the source's: what does not follow from those stays."""
    fields = dict(source.fields)
    whole, other = (source.family.to_config(each, source.ids) for each in (source.model, model))
    fields |= {key: value for key, value in other.items() if value != whole[key]}
    if source.fields.get("layer_types"):
        # Theirs, not ours: which layers are local is something to be compared.
        fields["layer_types"] = list(source.fields["layer_types"])[: model.num_layers]
    return fields


def _small_fields(source: HuggingFaceSource, small: ModelConfig) -> dict[str, Any]:
    ids = {key: None for key in source.fields if key.endswith("_token_id")}
    name = source.family.classes[source.family.head(source.model)]
    return their_fields(source, small) | ids | {"vocab_size": small.vocab_size, "architectures": [name]}


def _random_tensors(model: ModelConfig) -> dict[str, torch.Tensor]:
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    return {spec.name: _random(spec, torch.randn(spec.shape, generator=generator)) for spec in model.parameters()}


def _random(spec: ParameterSpec, noise: torch.Tensor) -> torch.Tensor:
    if isinstance(spec.init, Constant):
        return spec.init.value + 0.1 * noise
    gain = _QUERY_KEY_GAIN if spec.name.endswith("linear_qkv.weight") else 1.0
    return noise * (gain * spec.shape[-1] ** -0.5)


def _their_tensors(
    source: HuggingFaceSource, small: ModelConfig, tensors: Mapping[str, torch.Tensor]
) -> Iterator[tuple[str, torch.Tensor]]:
    for rule in source.family.rules(small, source.ids):
        if rule.ours in tensors:
            yield from zip(rule.theirs, rule.split(tensors[rule.ours]), strict=True)


def _frequencies(model: _Windowed) -> Iterator[torch.Tensor]:
    """Those of each kind of layer that there is, fp32 [F]."""
    from pretrain.models.gpt.rotary import frequencies

    layers = range(model.num_layers)
    if isinstance(model, DecoderAttentionConfig):
        for rotation in sorted({model.rotation(layer) for layer in layers}):
            base, scaling = model.rotations[rotation]
            yield frequencies(model.rotary_size, base, scaling)
        return
    for is_local in sorted({model.window(layer) is not None for layer in layers}):
        yield frequencies(model.head_size, model.rotary_bases[is_local], None)
