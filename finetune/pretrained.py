"""What fine-tuning begins with: a checkpoint of ours (any layout) or a Hugging Face directory, and its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from finetune.huggingface.document_start import exported_start, trained_text
from finetune.huggingface.plain_call import puts_special_tokens
from finetune.text_codec import OwnCodec, TextCodec, TransformersCodec, load_codec
from pretrain.models.huggingface.family import HUGGING_FACE_FAMILIES, counterpart_of, load_family, to_config
from pretrain.models.huggingface.weights import to_hf

if TYPE_CHECKING:
    import torch

_ENCODER_CLASSES = ("ForMaskedLM", "ForPreTraining")


@dataclass(frozen=True)
class PretrainedModel:
    """A pretrained model in transformers' terms.

    Attributes:
        path: where it was read.
        hf_config: transformers' config of the pretrained network, as a mapping.
        tensors: its weights by transformers' names.
        codec: its tokenizer.
        context: tokens that it can read at once.
        provenance: where it comes from, for the record.
        poolings: see `HuggingFaceFamily`; empty for an architecture that is none of ours.
        puts_special_tokens: whether an encoder was trained with the classification token before each text and the
            separator after it.
    """

    path: Path
    hf_config: dict[str, Any]
    tensors: Mapping[str, torch.Tensor]
    codec: TextCodec
    context: int
    provenance: dict[str, Any]
    poolings: Mapping[str, Mapping[str, Any]]
    puts_special_tokens: bool = True

    @property
    def is_encoder(self) -> bool:
        """Whether it was trained to fill masks, each token seeing the whole text."""
        names = self.hf_config.get("architectures") or [""]
        return str(names[0]).endswith(_ENCODER_CLASSES)

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
    return _read_checkpoint(model, tokenizer_dir)


def _read_checkpoint(model: Path, tokenizer_dir: Path | None) -> PretrainedModel:
    from finetune.model_checkpoint import find_tokenizer, open_checkpoint

    source = open_checkpoint(model)
    tokenizer = find_tokenizer(source, tokenizer_dir)
    text = trained_text(source.model, source.metadata, tokenizer)
    return PretrainedModel(
        model,
        to_config(source.model, text.ids),
        dict(to_hf(source.tensors, source.model, text.ids)),
        OwnCodec(tokenizer, text.start),
        source.model.seq_length,
        {"model": str(source.path.absolute()), "step": source.metadata.get("step")},
        counterpart_of(source.model).poolings,
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
    provenance = {"model": str(model.absolute())}
    known = config["model_type"] in HUGGING_FACE_FAMILIES
    poolings = load_family(config["model_type"]).poolings if known else {}
    return PretrainedModel(
        model, config, network.state_dict(), codec, _context(network), provenance, poolings, _adds_tokens(codec)
    )


def _adds_tokens(codec: TextCodec) -> bool:
    """Whether a plain call of a directory's tokenizer puts special tokens around a text; True where it has none."""
    if not isinstance(codec, TransformersCodec):
        return True
    plain = codec.tokenizer("a", add_special_tokens=False)["input_ids"]
    return bool(codec.tokenizer("a")["input_ids"] != plain)


def _context(network: Any) -> int:
    """Tokens that a transformers model can read at once."""
    positions = int(network.config.max_position_embeddings)
    # RoBERTa and its kin number positions from the one after their pad token's id, which their table says.
    tables = [module for name, module in network.named_modules() if name.endswith("position_embeddings")]
    padding = next((table.padding_idx for table in tables if getattr(table, "padding_idx", None) is not None), None)
    return positions if padding is None else positions - padding - 1
