"""Before the first step: our model with a Hugging Face directory's weights gives the logits that transformers gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.logit_check import TOLERANCE, Agreement, check_rows, compare
from pretrain.models.huggingface.transformers_model import load_weights, quiet_transformers
from pretrain.starting.far_positions import compare_far, their_fields
from pretrain.starting.huggingface_source import HuggingFaceSource, SourceTensors

if TYPE_CHECKING:
    from pretrain.models.huggingface.logit_check import Reference

_LONGEST = 512
"""Tokens of a row that all of the weights are compared on: a long context would take long. What shows far from the
beginning alone: see `far_positions`."""
_ROWS, _SEED = 2, 0


def compare_logits(source: HuggingFaceSource, most_parameters: int, reference: Reference | None = None) -> str:
    """Compare our model, in this one process, with transformers' own reading of the directory; fp32 on the CPU.

    Args:
        source: the directory.
        most_parameters: a model with more is compared with its first layers alone, as many as fit, one at least.
        reference: our model; None: megatron-core's, as it is trained.

    Returns:
        what was found, a sentence.

    Raises:
        CheckpointError: the logits differ by more than 1e-4.
        DataError: transformers cannot read the weights.
    """
    model = truncated(source.model, most_parameters)
    theirs = _their_model(source, model)
    length = min(model.seq_length, _LONGEST)
    rows = check_rows(model.model_copy(update={"seq_length": length}), [], _ROWS, _SEED, source.ids)
    names = [spec.name for spec in model.parameters()]
    agreement = compare(model, SourceTensors(source, names), theirs, rows, reference)
    source.close()
    _require(agreement, source)
    far = compare_far(source, length, reference)
    layers = ""
    if model.num_layers < source.model.num_layers:
        layers = (
            f", with its first {model.num_layers} of {source.model.num_layers} layers alone: it has"
            f" {source.model.num_parameters():,} weights, more than start_from_options.check_parameters"
        )
    return (
        f"logits equal those of transformers' {type(theirs).__name__} on {agreement.sequences} sequences of"
        f" {length} tokens: largest difference {agreement.largest_difference:.1e} (allowed {TOLERANCE:.0e}){layers}"
        + (f"; {far}" if far else "")
    )


def truncated(model: ModelConfig, most_parameters: int) -> ModelConfig:
    """The model with as many of its first layers as leave it at most so many weights, but one at least.

    Of an encoder-decoder, at most as many of each stack.
    """

    def first(layers: int) -> ModelConfig:
        changed = {"num_layers": layers}
        if getattr(model, "num_decoder_layers", None) is not None:
            changed["num_decoder_layers"] = min(layers, model.num_decoder_layers)  # type: ignore[attr-defined]
        return model.model_copy(update=changed)

    layers = model.num_layers
    while layers > 1 and first(layers).num_parameters() > most_parameters:
        layers -= 1
    return first(layers)


def _their_model(source: HuggingFaceSource, model: ModelConfig) -> Any:
    import transformers

    fields = dict(source.fields) if model.num_layers == source.model.num_layers else their_fields(source, model)
    name = source.family.classes[source.family.head(source.model)]
    with quiet_transformers():
        config = transformers.AutoConfig.for_model(**fields)
    # What the class does not take was told when the directory was opened.
    refused = ("missing_keys", "mismatched_keys")
    return load_weights(getattr(transformers, name), source.path, "float32", config=config, refused=refused)


def _require(agreement: Agreement, source: HuggingFaceSource) -> None:
    if "logits" not in agreement.outputs or not agreement.largest_difference <= TOLERANCE:
        raise CheckpointError(
            f"our model's logits differ by {agreement.largest_difference:.3g} from those of transformers"
            f" (largest logit {agreement.largest_logit:.3g}); nothing was trained",
            where=f"start_from = {source.path}",
            expected=f"at most {TOLERANCE:g}. Non-finite or very large weights do this; if the model is healthy, its"
            " config has something that ours does not read: please report it."
            " start_from_options.check_logits=false trains all the same",
        )
