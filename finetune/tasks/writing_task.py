"""What tasks share whose model writes: the pretrained network, saved so that its `generate` writes the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.sequence_template import SequenceTemplate
from finetune.tasks.base import FinetuneTask
from finetune.tasks.seq2seq_config import GenerationSettings
from finetune.text_codec import TransformersCodec

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel


class WritingTask(FinetuneTask):
    """A base class of tasks: a decoder or an encoder-decoder with its own output layer."""

    generation: GenerationSettings
    """How the model writes."""

    def template(self, pretrained: PretrainedModel) -> SequenceTemplate:
        """What the model reads and writes, as token ids.

        Raises:
            UserError: the model or its tokenizer does not fit.
        """
        raise NotImplementedError

    def network(self, pretrained: PretrainedModel, *, from_scratch: bool = False) -> torch.nn.Module:
        """See the base class; the class that was pretrained."""
        from finetune.language_networks import language_network
        from finetune.tasks.writing import generation_config

        template = self.template(pretrained)
        network = language_network(pretrained, {"pad_token_id": template.pad}, from_scratch=from_scratch)
        network.generation_config = generation_config(pretrained, template, self.generation)
        return network

    def save(
        self, folder: Path, network: Any, weights: Mapping[str, torch.Tensor], pretrained: PretrainedModel
    ) -> None:
        """See the base class; a Hugging Face directory whose `generate` writes the same without being told how."""
        from finetune.language_networks import save_language_network
        from finetune.networks import save_tokenizer
        from finetune.tasks.writing import set_in_tokenizer

        template = self.template(pretrained)
        save_language_network(folder, network, weights, pretrained)
        save_tokenizer(folder, pretrained, template.source)
        if not template.is_encoder_decoder:
            set_in_tokenizer(folder, padding_side="left")
        codec = pretrained.codec
        if isinstance(codec, TransformersCodec) and getattr(codec.tokenizer, "chat_template", None):
            # What a chat template writes is read by its special tokens.
            set_in_tokenizer(folder, split_special_tokens=False)

    def load(self, folder: Path) -> torch.nn.Module:
        """See the base class."""
        from pretrain.models.huggingface.transformers_model import load_pretrained

        return load_pretrained(folder, "float32")
