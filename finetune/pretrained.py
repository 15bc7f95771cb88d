"""What fine-tuning begins with: a checkpoint of ours (any layout) or a Hugging Face directory, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError, DataError, nearest
from data_prep.tokenizer import load_tokenizer
from finetune.huggingface.document_start import exported_start, trained_text
from finetune.huggingface.plain_call import puts_special_tokens
from finetune.text_codec import OwnCodec, TextCodec, TransformersCodec, load_codec
from pretrain.checkpoint.reader import find_checkpoints
from pretrain.models.huggingface.export_record import exported_family
from pretrain.models.huggingface.family import HuggingFaceFamily, counterpart_of, to_config
from pretrain.models.huggingface.weights import HuggingFaceWeights

if TYPE_CHECKING:
    import torch

ADAPTER_DIR = "adapter"
"""Where in the output of a task the adapter lies that was trained, in peft's format."""
_ENCODER_CLASSES = ("ForMaskedLM", "ForPreTraining")
"""How transformers ends the names of classes that fill masks: for architectures that no family of ours describes."""
_CONTEXT_FIELDS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""What the configs of transformers' families call the context."""


@dataclass(frozen=True)
class PretrainedModel:
    """A pretrained model in transformers' terms.

    Attributes:
        path: where it was read.
        hf_config: transformers' config of the pretrained network, as a mapping.
        tensors: its weights by transformers' names; of a checkpoint of ours, each is read when it is asked for.
        codec: its tokenizer.
        context: tokens that it can read at once; None: any number.
        provenance: where it comes from, for the record.
        family: what describes its architecture; None for one that is none of ours.
        puts_special_tokens: whether an encoder was trained with the classification token before each text and the
            separator after it.
    """

    path: Path
    hf_config: dict[str, Any]
    tensors: Mapping[str, torch.Tensor]
    codec: TextCodec
    context: int | None
    provenance: dict[str, Any]
    family: HuggingFaceFamily | None = None
    puts_special_tokens: bool = True

    @property
    def poolings(self) -> Mapping[str, Mapping[str, Any]]:
        """See `HuggingFaceFamily`; empty for an architecture that is none of ours."""
        return {} if self.family is None else self.family.poolings

    @property
    def is_encoder(self) -> bool:
        """Whether it was trained to fill masks, each token seeing the whole text."""
        name = str((self.hf_config.get("architectures") or [""])[0])
        if self.family is not None and name in self.family.classes.values():
            return self.family.sees_both_sides
        is_body = name.endswith("Model") and not name.endswith("LMHeadModel")
        return name.endswith(_ENCODER_CLASSES) or (is_body and _is_encoder_body(self.hf_config))

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether a decoder writes what an encoder has read."""
        name = str((self.hf_config.get("architectures") or [""])[0])
        return bool(self.hf_config.get("is_encoder_decoder", name.endswith("ForConditionalGeneration")))

    @property
    def has_token_types(self) -> bool:
        """Whether the second text of a pair has token types of its own."""
        return self.is_encoder and int(self.hf_config.get("type_vocab_size") or 1) > 1


def read_pretrained(model: Path, tokenizer_dir: Path | None = None) -> PretrainedModel:
    """Read a checkpoint of ours (any layout) or a Hugging Face directory.

    Args:
        model: where it is.
        tokenizer_dir: our tokenizer; None: the one that belongs to the model.

    Raises:
        UserError: neither, damaged, or without its tokenizer.
    """
    if (model / "config.json").is_file():
        return _read_export(model, tokenizer_dir)
    refuse_no_model(model)
    return _read_checkpoint(model, tokenizer_dir)


def refuse_no_model(model: Path) -> None:
    """Refuse a path that is neither a checkpoint of ours, or a run with one, nor a Hugging Face directory.

    Raises:
        DataError: names the nearest directory beside it, if it does not exist.
    """
    if (model / "config.json").is_file() or holds_checkpoint(model):
        return
    refuse_adapter_alone(model)
    siblings = [p.name for p in model.parent.iterdir() if p.is_dir()] if model.parent.is_dir() else []
    close = nearest(model.name, siblings) if not model.exists() else None
    raise DataError(
        "holds neither a complete checkpoint nor a config.json" if model.exists() else "does not exist",
        where=model,
        expected="a run's output directory, one step_... of it, or a Hugging Face model directory, as `export` writes",
        nearest=str(model.parent / close) if close else None,
    )


def refuse_adapter_alone(model: Path) -> None:
    """Refuse the output of a task whose method trains an adapter that cannot be merged into a model.

    Raises:
        DataError: it is one.
    """
    if (model / ADAPTER_DIR / "adapter_config.json").is_file() and not (model / "config.json").is_file():
        raise DataError(
            f"holds no whole model: its method trained an adapter that cannot be merged, in {ADAPTER_DIR}/",
            where=model,
            expected="a whole model; peft loads the adapter on the model that it was trained on",
        )


def holds_checkpoint(model: Path) -> bool:
    """Whether a directory is a checkpoint of ours, or a run with a complete one."""
    try:
        return bool(find_checkpoints(model))
    except CheckpointError:
        return False


def _read_checkpoint(model: Path, tokenizer_dir: Path | None) -> PretrainedModel:
    from finetune.model_checkpoint import find_tokenizer
    from pretrain.checkpoint.model_checkpoint import open_checkpoint

    source = open_checkpoint(model)
    tokenizer = find_tokenizer(source, tokenizer_dir)
    text = trained_text(source.model, source.metadata, tokenizer)
    return PretrainedModel(
        model,
        to_config(source.model, text.ids),
        HuggingFaceWeights(source.tensors, source.model, text.ids),
        OwnCodec(tokenizer, text.start),
        source.model.seq_length,
        {"model": str(source.path.absolute()), "step": source.metadata.get("step")},
        counterpart_of(source.model),
        puts_special_tokens(source.metadata),
    )


def _read_export(model: Path, tokenizer_dir: Path | None) -> PretrainedModel:
    from pretrain.models.huggingface.transformers_model import load_pretrained

    network = load_pretrained(model, "float32")
    own = load_tokenizer(tokenizer_dir) if tokenizer_dir is not None else None
    codec = load_codec(model) if own is None else OwnCodec(own, exported_start(model))
    config = network.config.to_dict()
    if codec.vocab_size > config["vocab_size"]:
        raise DataError(
            f"has {codec.vocab_size} ids",
            where=tokenizer_dir or f"the tokenizer in {model}",
            expected=f"at most {config['vocab_size']}, the model's vocabulary",
        )
    config["architectures"] = [type(network).__name__]
    # A bare body, as sentence encoders are saved, names its weights without the body's name.
    is_bare = not hasattr(network, network.base_model_prefix) and "For" not in type(network).__name__
    prefix = f"{network.base_model_prefix}." if is_bare else ""
    tensors = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    provenance = {"model": str(model.absolute())}
    family = exported_family(model, config["model_type"])
    return PretrainedModel(
        model, config, tensors, codec, context_tokens(network), provenance, family, _adds_tokens(codec)
    )


def _is_encoder_body(hf_config: Mapping[str, Any]) -> bool:
    """Whether a model without a head sees the whole text from each token."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    return hf_config["model_type"] in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not hf_config.get("is_decoder")


def _adds_tokens(codec: TextCodec) -> bool:
    """Whether a plain call of a directory's tokenizer puts special tokens around a text; True where it has none."""
    if not isinstance(codec, TransformersCodec):
        return True
    plain = codec.tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(codec.tokenizer("a")["input_ids"] != plain)


def context_tokens(network: Any) -> int | None:
    """Tokens that a transformers model can read at once; None: any number (relative positions, as Bloom's, or none)."""
    found = (getattr(network.config, name, None) for name in _CONTEXT_FIELDS)
    positions = next((int(number) for number in found if isinstance(number, int) and number > 0), None)
    if positions is None:
        return None
    # RoBERTa and its kin number positions from the one after their pad token's id, which their table says.
    tables = [module for name, module in network.named_modules() if name.endswith("position_embeddings")]
    padding = next((table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None), None)
    return positions if padding is None else positions - padding - 1
