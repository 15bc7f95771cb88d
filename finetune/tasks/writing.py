"""Text for a source by beam search, as the saved model's `generate` writes it.

Shape letters: B sources, S tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.huggingface.tokenizer import CONFIG_FILE
from finetune.sequence_template import SequenceTemplate
from finetune.tasks.seq2seq_config import GenerationSettings

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.text_codec import TextCodec


def generation_config(pretrained: PretrainedModel, template: SequenceTemplate, settings: GenerationSettings) -> Any:
    """Transformers' settings of `generate`; they are saved with the model."""
    from transformers import GenerationConfig

    without_text = range(pretrained.codec.vocab_size, int(pretrained.hf_config["vocab_size"]))
    fields: dict[str, Any] = {
        "do_sample": False,
        "num_beams": settings.num_beams,
        "max_new_tokens": settings.max_new_tokens or template.target_tokens,
        "eos_token_id": template.after,
        "pad_token_id": template.pad,
        "bos_token_id": template.before,
    }
    if settings.num_beams > 1:
        fields |= {"length_penalty": settings.length_penalty, "early_stopping": True}
    if settings.no_repeat_ngram_size:
        fields["no_repeat_ngram_size"] = settings.no_repeat_ngram_size
    if template.is_encoder_decoder:
        fields["decoder_start_token_id"] = pretrained.hf_config["decoder_start_token_id"]
    if without_text:
        fields["suppress_tokens"] = list(without_text)
    return GenerationConfig(**fields)


def write_texts(
    model: Any, sources: Sequence[Sequence[int]], template: SequenceTemplate, codec: TextCodec, device: torch.device
) -> list[str]:
    """What a model writes for each source.

    Args:
        model: a network with a generation config, or an engine around one.
        sources: token ids; written together, padded on the left for a decoder alone.
        template: of the model.
        codec: its tokenizer.
        device: where the model is.
    """
    import torch

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    network = getattr(model, "module", model)
    width = max(map(len, sources))
    tokens_BS = torch.full((len(sources), width), template.pad, dtype=torch.int64)
    mask_BS = torch.zeros_like(tokens_BS)
    for number, row in enumerate(sources):
        start = 0 if template.is_encoder_decoder else width - len(row)
        tokens_BS[number, start : start + len(row)] = torch.tensor(row, dtype=torch.int64)
        mask_BS[number, start : start + len(row)] = 1
    with torch.no_grad(), quiet_transformers():
        rows = network.generate(input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device)).tolist()
    begin = 1 if template.is_encoder_decoder else width
    return [codec.decode(_until(row[begin:], template)) for row in rows]


def set_in_tokenizer(folder: Path, **fields: Any) -> None:
    """Change what the tokenizer of a saved model says of itself, where there is one of transformers.

    Args:
        folder: of the model.
        fields: such as `padding_side`: whoever reads several prompts of a decoder has to pad where none goes on.
    """
    path = folder / CONFIG_FILE
    if path.is_file():
        said = json.loads(path.read_text("utf-8")) | fields
        path.write_text(json.dumps(said, indent=2, ensure_ascii=False) + "\n", "utf-8")


def answer_ends(folder: Path) -> list[int]:
    """The ids that end what a model in a Hugging Face directory writes; none where it does not say."""
    path = folder / "generation_config.json"
    ends = json.loads(path.read_text("utf-8")).get("eos_token_id") if path.is_file() else None
    return ends if isinstance(ends, list) else [] if ends is None else [ends]


def _until(row: list[int], template: SequenceTemplate) -> list[int]:
    """The ids before the end, without those that are never text."""
    end = row.index(template.after) if template.after in row else len(row)
    return [number for number in row[:end] if number not in (template.pad, template.before)]
