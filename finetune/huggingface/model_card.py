"""The README.md of an exported model: what it is and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune.config import ExportConfig
from finetune.huggingface.tokenizer import OWN_FOLDER
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.family import sees_both_sides
from pretrain.models.transformer_config import TransformerModelConfig

TRANSFORMERS_VERSIONS = ">=4.57,<6"
"""The versions of transformers that read an export; `tests.finetune.huggingface.fresh_environments` tries them."""
_CAUSAL_WITH_TOKENIZER = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({path!r})
model = AutoModelForCausalLM.from_pretrained({path!r})
inputs = tokenizer("A text to go on with", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"""

_CAUSAL_WITH_SENTENCEPIECE = """import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForCausalLM

tokenizer = SentencePieceProcessor({path!r} + "/{own}/tokenizer.model")
model = AutoModelForCausalLM.from_pretrained({path!r})
ids = torch.tensor([tokenizer.encode("A text to go on with")])
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0].tolist()))"""

_CAUSAL_WITHOUT_TOKENIZER = """from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({path!r})"""

_MASKED_WITH_TOKENIZER = """from transformers import pipeline

fill_mask = pipeline("fill-mask", {path!r})
mask = fill_mask.tokenizer.mask_token
print(fill_mask(f"The {{mask}} of a text"))"""

_MASKED_WITH_SENTENCEPIECE = """import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForMaskedLM

tokenizer = SentencePieceProcessor({path!r} + "/{own}/tokenizer.model")
model = AutoModelForMaskedLM.from_pretrained({path!r})
ids = tokenizer.encode("A text, with the special tokens that the model was trained with")
print(model(torch.tensor([ids])).logits.shape)"""

_MASKED_WITHOUT_TOKENIZER = """from transformers import AutoModelForMaskedLM

model = AutoModelForMaskedLM.from_pretrained({path!r})"""

_SEQ2SEQ_WITH_TOKENIZER = """from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({path!r})
model = AutoModelForSeq2SeqLM.from_pretrained({path!r})
inputs = tokenizer("A text, with gaps as in pretraining", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"""

_SEQ2SEQ_WITH_SENTENCEPIECE = """import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForSeq2SeqLM

tokenizer = SentencePieceProcessor({path!r} + "/{own}/tokenizer.model")
model = AutoModelForSeq2SeqLM.from_pretrained({path!r})
ids = torch.tensor([tokenizer.encode("A text, with gaps as in pretraining")])
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0].tolist()))"""

_SEQ2SEQ_WITHOUT_TOKENIZER = """from transformers import AutoModelForSeq2SeqLM

model = AutoModelForSeq2SeqLM.from_pretrained({path!r})"""

_CAUSAL = {
    "huggingface": _CAUSAL_WITH_TOKENIZER,
    "sentencepiece-only": _CAUSAL_WITH_SENTENCEPIECE,
    "none": _CAUSAL_WITHOUT_TOKENIZER,
}
_MASKED = {
    "huggingface": _MASKED_WITH_TOKENIZER,
    "sentencepiece-only": _MASKED_WITH_SENTENCEPIECE,
    "none": _MASKED_WITHOUT_TOKENIZER,
}
_SEQ2SEQ = {
    "huggingface": _SEQ2SEQ_WITH_TOKENIZER,
    "sentencepiece-only": _SEQ2SEQ_WITH_SENTENCEPIECE,
    "none": _SEQ2SEQ_WITHOUT_TOKENIZER,
}
_WHAT_SEQ2SEQ = (
    "An encoder-decoder pretrained with Bessemer. It is a base model: it gives back what its pretraining took out of a"
    " text, and is a start for fine-tuning on pairs of texts."
)
_WHAT_CAUSAL = (
    "A causal language model pretrained with Bessemer. It is a base model: it continues text and follows no"
    " instructions."
)
_PAIRS = {
    "next_sentence": " Its `seq_relationship` head says whether the second of two parts follows the first (0) or is"
    " random (1).",
    "sentence_order": " Its `seq_relationship` head says whether two parts are in their order (0) or swapped (1), as"
    " ALBERT's does, not whether the second follows the first, as the head of this name does in BERT.",
}
_WHAT_MASKED = (
    "An encoder pretrained with Bessemer as a masked language model: it says which token a mask stands for, and its"
    " hidden states are a start for fine-tuning."
)


def model_card(config: ExportConfig, model: ModelConfig, record: dict[str, Any], pairs: str | None = None) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        config: what was exported.
        model: its architecture.
        record: what `export.json` says.
        pairs: what the pretraining asked of pairs of text (`objective.pairs`); None: nothing.
    """
    if model.is_encoder_decoder:
        calls, what = _SEQ2SEQ, _WHAT_SEQ2SEQ
    else:
        calls, what = (_MASKED, _WHAT_MASKED) if sees_both_sides(model) else (_CAUSAL, _WHAT_CAUSAL)
    how = calls[config.tokenizer].format(path=f"./{Path(config.output).name}", own=OWN_FOLDER)
    if pairs is not None:
        what += _PAIRS[pairs]
    logits = record["logits"]
    heads = {}
    if isinstance(model, TransformerModelConfig):
        heads = {"heads": f"{model.num_attention_heads} ({model.query_groups} key/value)"}
    rows = {
        "class": f"`{record['architecture']}`",
        "parameters": f"{record['parameters']:,}",
        "layers": model.num_layers,
        "hidden size": model.hidden_size,
        **heads,
        "context": f"{model.seq_length} tokens",
        "vocabulary": f"{model.vocab_size:,}",
        "weights": config.dtype,
        "trained for": f"{record['step']} steps, {record['consumed_samples']} samples",
    }
    if record.get("adapter"):
        rows["trained as"] = f"an adapter, which is merged here; `{record['adapter']['adapter']}/` has it for peft"
    start = record.get("document_start")
    if start is not None:
        rows["a document begins after"] = f"`{start['token']}`" if start["token"] is not None else "no token"
    rows["reads in"] = f"transformers {TRANSFORMERS_VERSIONS}"
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    rounding = record.get("rounding")
    rounded = f" Then {_rounded(rounding)}" if rounding is not None else ""
    return f"""---
library_name: transformers
pipeline_tag: {record["pipeline"]}
---

# {Path(config.output).name}

{what}

| | |
|---|---|
{table}

```python
{how}
```

Before this directory was written, its outputs were compared with those of the trained model on
{logits["sequences"]} sequences of full length: the largest difference was {logits["largest_difference"]:.1e} in
float32.{rounded} `export.json` says which checkpoint, data and tokenizer it comes from.
"""


def _rounded(rounding: dict[str, Any]) -> str:
    return (
        f"each weight was rounded to bfloat16, which changes it by {rounding['largest_relative_change']:.2%} at most"
        f" and the outputs by {rounding['largest_logit_difference']:.1e}."
    )
