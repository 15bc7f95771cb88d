"""What the declarations of the objectives of encoder-decoders have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from configs.errors import ConfigError
from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig, SampleCutting
from pretrain.config.sampling import TOKEN_STREAM
from pretrain.objectives.token_loss_config import TokenLossConfig


class DenoisingConfig(TokenLossConfig):
    """Read a damaged text, write what is missing or the whole. A subclass declares one way to damage it."""

    labels_special_tokens: ClassVar[bool] = False
    """A unigram model is told sentinels and ends; it pays for the text that is asked for."""
    takes_shorter_samples: ClassVar[bool] = True

    def text_tokens(self, model: ModelConfig) -> int:
        """Tokens of text in one sample; below 1 where `model.seq_length` has no room for any."""
        raise NotImplementedError(f"{type(self).__name__} does not say how much text a sample has")

    def target_tokens(self, model: ModelConfig) -> int:
        """See the base class."""
        raise NotImplementedError(f"{type(self).__name__} does not say how long its targets are")

    def target_length(self, model: ModelConfig) -> int:
        """Positions of the decoder: `model.decoder_seq_length`, or, where that is null, what the targets need."""
        given: int | None = getattr(model, "decoder_seq_length", None)
        return self.target_tokens(model) if given is None else given

    def sampling(self, model: ModelConfig, *, documents_apart: bool) -> SampleCutting:
        """The next tokens of the corpus, wherever they begin; each is in one sample.

        Raises:
            ConfigError: where documents are to be apart.
        """
        self.refuse_documents_apart(documents_apart)
        return SampleCutting(TOKEN_STREAM, max(1, self.text_tokens(model)))

    def refuse_documents_apart(self, documents_apart: bool) -> None:
        """Refuse samples whose documents do not see each other.

        Raises:
            ConfigError: where documents are to be apart.
        """
        if documents_apart:
            raise ConfigError(
                f"is true, and objective.name={self.name} writes one target for all documents of a sample",
                where="data.reset_attention_at_documents",
                expected="false",
            )

    def problems(self, model: ModelConfig) -> list[str]:
        """See the base class."""
        if not model.is_encoder_decoder:
            instead = "causal" if model.is_causal else "masked"
            return [
                f"objective.name={self.name} writes a target beside the text that it reads, and"
                f" model.name={model.name} has no decoder beside an encoder; expected objective.name={instead}, or an"
                " encoder-decoder, such as model.name=t5"
            ]
        if self.text_tokens(model) < 1:
            return [f"model.seq_length {model.seq_length} has no room for text under objective.name={self.name}"]
        needed, given = self.target_tokens(model), self.target_length(model)
        if given < needed:
            return [
                f"model.decoder_seq_length {given} is shorter than the targets of objective.name={self.name}, which"
                f" have up to {needed} tokens at model.seq_length {model.seq_length}; expected at least {needed}, or"
                " null"
            ]
        return []

    def layout_problems(self, model: ModelConfig, sizes: Mapping[str, int], *, sequence_parallel: bool) -> list[str]:
        """See the base class."""
        found = super().layout_problems(model, sizes, sequence_parallel=sequence_parallel)
        return found + (uncut_targets(self, model, sizes["tensor"]) if sequence_parallel else [])


def uncut_targets(objective: ObjectiveConfig, model: ModelConfig, tensor_size: int) -> list[str]:
    """A sentence if the length of an objective's targets, which the model leaves to it, cannot be split so."""
    length = objective.target_tokens(model)
    # What the model's own config says of a length that is given, it says itself.
    if length is None or getattr(model, "decoder_seq_length", None) is not None or length % tensor_size == 0:
        return []
    return [
        f"the target length {length} of objective.name={objective.name} is not a multiple of the tensor size"
        f" {tensor_size}; expected model.decoder_seq_length={-(-length // tensor_size) * tensor_size}"
    ]
