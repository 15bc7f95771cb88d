"""A model that predicts the next token, ready to write: from a checkpoint of ours, or a Hugging Face directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import DataError
from finetune.pretrained import context_tokens, read_pretrained, refuse_no_model
from finetune.text_codec import TextCodec, load_codec

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class CausalModel:
    """A causal language model of transformers.

    Attributes:
        network: in evaluation mode.
        codec: its tokenizer.
        context: tokens that it can read at once; None: any number.
        without_text: ids that the model knows and its tokenizer does not: they stand for no text.
    """

    network: PreTrainedModel
    codec: TextCodec
    context: int | None
    without_text: range


def read_causal(model: Path) -> CausalModel:
    """Read a run's newest checkpoint, one `step_...` of it, or a Hugging Face directory.

    On the CPU it computes in float32, so that an answer does not depend on the batch; on a GPU in the number format
    that it was saved in.

    Raises:
        UserError: neither, damaged, without its tokenizer, or another kind of model.
    """
    import torch
    from transformers import GenerationConfig

    from pretrain.models.huggingface.transformers_model import load_causal, model_from_tensors, refuse_not_causal

    refuse_no_model(model)
    if not (model / "config.json").is_file():
        pretrained = read_pretrained(model)
        refuse_not_causal(pretrained.hf_config["architectures"][0], model)
        network, codec = model_from_tensors(pretrained.hf_config, pretrained.tensors), pretrained.codec
    else:
        network, codec = load_causal(model, None if torch.cuda.is_available() else "float32"), load_codec(model)
    # What a directory wishes (beams, penalties) would fill in what is asked for here.
    network.generation_config = GenerationConfig()
    known = int(network.config.vocab_size)
    if codec.vocab_size > known:
        raise DataError(
            f"has {codec.vocab_size} ids", where=f"the tokenizer in {model}", expected=f"at most {known}, the model's"
        )
    return CausalModel(network, codec, context_tokens(network), range(codec.vocab_size, known))
