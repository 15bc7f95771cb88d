"""The README.md of an exported model: what it is and how to load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune.config import ExportConfig
from finetune.huggingface.tokenizer import OWN_FOLDER
from pretrain.models.gpt.config import GPTConfig

_WITH_TOKENIZER = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({path!r})
model = AutoModelForCausalLM.from_pretrained({path!r})
inputs = tokenizer("A text to go on with", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"""

_WITH_SENTENCEPIECE = """import torch
from sentencepiece import SentencePieceProcessor
from transformers import AutoModelForCausalLM

tokenizer = SentencePieceProcessor({path!r} + "/{own}/tokenizer.model")
model = AutoModelForCausalLM.from_pretrained({path!r})
ids = torch.tensor([tokenizer.encode("A text to go on with")])
print(tokenizer.decode(model.generate(ids, max_new_tokens=50)[0].tolist()))"""

_WITHOUT_TOKENIZER = """from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained({path!r})"""


def model_card(config: ExportConfig, model: GPTConfig, record: dict[str, Any]) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        config: what was exported.
        model: its architecture.
        record: what `export.json` says.
    """
    how = {
        "huggingface": _WITH_TOKENIZER,
        "sentencepiece-only": _WITH_SENTENCEPIECE,
        "none": _WITHOUT_TOKENIZER,
    }[config.tokenizer].format(path=f"./{Path(config.output).name}", own=OWN_FOLDER)
    logits = record["logits"]
    rows = {
        "class": f"`{record['architecture']}`",
        "parameters": f"{record['parameters']:,}",
        "layers": model.num_layers,
        "hidden size": model.hidden_size,
        "heads": f"{model.num_attention_heads} ({model.query_groups} key/value)",
        "context": f"{model.seq_length} tokens",
        "vocabulary": f"{model.vocab_size:,}",
        "weights": config.dtype,
        "trained for": f"{record['step']} steps, {record['consumed_samples']} samples",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""---
library_name: transformers
pipeline_tag: text-generation
---

# {Path(config.output).name}

A causal language model pretrained with Bessemer. It is a base model: it continues text and follows no instructions.

| | |
|---|---|
{table}

```python
{how}
```

Before this directory was written, its logits were compared with those of the trained model on
{logits["sequences"]} sequences of full length: the largest difference was {logits["largest_difference"]:.1e} in
float32. `export.json` says which checkpoint, data and tokenizer it comes from.
"""
