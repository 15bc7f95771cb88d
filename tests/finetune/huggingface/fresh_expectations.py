"""Exports of every class, and what a reader of them has to find, for `fresh_environments`."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface.document_start import TrainedText, trained_text
from finetune.huggingface.export import export
from finetune.huggingface.plain_call import PlainCall
from finetune.huggingface.tokenizer_check import PROBES
from finetune.model_checkpoint import find_tokenizer
from finetune.networks import head_network, load_network, save_network, save_tokenizer
from finetune.pretrained import read_pretrained
from finetune.text_template import text_template
from pretrain.checkpoint.model_checkpoint import open_checkpoint
from pretrain.config.model import ModelConfig
from pretrain.engine.single import reference_logits
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from tests.distributed import run_ranks
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer
from tests.pretrain.tiny_run import make_corpus, tiny_config

TOLERANCE = 1e-4
NUM_NEW = 16
_SIZES: dict[str, Any] = {"num_layers": 3, "hidden_size": 32, "num_attention_heads": 4, "ffn_hidden_size": 48}
_SIZES |= {"seq_length": 64, "vocab_multiple": 64, "init_std": 0.2}
_GPT2 = {"position_embedding": "learned", "normalization": "LayerNorm", "num_query_groups": None}
_NEOX = {"normalization": "LayerNorm", "activation": "gelu", "bias": True, "rotary_percent": 0.5}
_NEOX |= {"tie_embeddings": False}
_GEMMA = {"activation": "geglu_tanh", "norm_plus_one": True, "embedding_scale": True}
_GEMMA2 = _GEMMA | {"norm_placement": "both", "sliding_window": 9, "global_every": 2}
_LLAMA3 = {"kind": "llama3", "factor": 8, "original_seq_length": 32}
_CAUSAL = ["plain calls", "special tokens by text", "outputs of a call", "greedy text", "lines of the card",
           "rolling likelihood", "GGUF vocabulary"]  # fmt: skip
_MASKED = ["plain calls", "special tokens by text", "outputs of a call", "lines of the card"]

KNOWN = ("pretrained", "llama", "llama, untied", "gpt2", "gpt2, untied", "starcoder2", "llama, longer", "mistral",
         "qwen2", "qwen3", "gpt_neox", "phi", "gemma", "gemma2", "gemma3_text", "olmo2", "bert", "megatron-bert",
         "roberta", "modernbert")  # fmt: skip
"""A run that learned something, and the names of `models_of`."""


def models_of(tokenizer: Tokenizer) -> dict[str, ModelConfig]:
    """One of each class, and forms of it that versions of transformers read from different fields."""
    sizes = _SIZES | {"vocab_size": tokenizer.vocab_size}
    return {
        "llama": llama(tokenizer, rotary_base=500.0),
        "llama, untied": llama(tokenizer, tie_embeddings=False, bias=True),
        "gpt2": llama(tokenizer, **_GPT2, activation="gelu_tanh"),
        "gpt2, untied": llama(tokenizer, **_GPT2, activation="gelu", tie_embeddings=False),
        "starcoder2": llama(tokenizer, normalization="LayerNorm", activation="gelu_tanh", rotary_base=500.0),
        "llama, longer": llama(tokenizer, rotary_scaling=_LLAMA3, rotary_base=500.0, attention_head_size=12),
        "mistral": llama(tokenizer, sliding_window=9),
        "qwen2": llama(tokenizer, attention_bias="qkv", rotary_base=500.0),
        "qwen3": llama(tokenizer, qk_norm="head", attention_head_size=12),
        "gpt_neox": llama(tokenizer, **_NEOX, residual="parallel", num_query_groups=None, rotary_base=500.0),
        "phi": llama(tokenizer, **_NEOX, residual="parallel_one_norm", output_bias=True),
        "gemma": llama(tokenizer, **_GEMMA),
        "gemma2": llama(tokenizer, **_GEMMA2, attention_softcap=5.0, logit_softcap=5.0),
        "gemma3_text": llama(tokenizer, **_GEMMA2, qk_norm="head", rotary_base=500.0, local_rotary_base=50.0),
        "olmo2": llama(tokenizer, norm_placement="after", qk_norm="projection"),
        "bert": BertConfig(**sizes),
        "megatron-bert": BertConfig(**sizes, norm_placement="pre", pooler=False),
        "roberta": RobertaConfig(**sizes),
        "modernbert": ModernEncoderConfig(**sizes, local_window=8, global_rotary_base=500.0, local_rotary_base=50.0),
    }


def pretrain(folder: Path) -> Path:
    """A run that learns a corpus whose documents end with one token, and whose tokenizer has one that begins them."""
    corpus = make_corpus(folder / "corpus")
    changes = {"training__duration": "200 steps", "model__seq_length": 64, "optimizer__lr": 0.003}
    changes |= {"checkpoint__interval": "200 steps", "evaluation__interval": "null", "monitor__log_interval": 200}
    config = tiny_config(folder / "runs" / "pretrained", corpus, **changes)
    assert run_ranks(_train, 1, config, process_group=False, timeout_s=600) == [0]
    return folder / "runs" / "pretrained"


def _train(config: Any) -> int:
    from pretrain import main

    return int(main.run(config))


def expectations(folder: Path, names: Collection[str]) -> list[dict[str, Any]]:
    """Export the models of these names, of `KNOWN`, into `folder`; returns what a reader has to find."""
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    tokenizer = train_tokenizer(folder / "tokenizer", bos_id=3, bos_piece="<s>", control_symbols=symbols)
    made = [expect("pretrained", pretrain(folder), folder)] if "pretrained" in names else []
    for name, model in models_of(tokenizer).items():
        if name not in names:
            continue
        run = folder / "runs" / name
        write_run(run, model, tokenizer)
        made.append(expect(name, run, folder))
        if name in ("llama", "bert"):
            made.append(expect(f"{name}, bfloat16", run, folder, dtype="bfloat16"))
        if name in ("llama", "gpt2", "bert", "modernbert"):
            for source in (run, folder / "exports" / name):
                made.append(expect_classifier(f"classifier of {source.parent.name}, {name}", source, run, folder))
    return made


def expect(name: str, run: Path, folder: Path, dtype: str = "float32") -> dict[str, Any]:
    """Export a run; what a reader of the export has to find."""
    output = folder / "exports" / name
    settings = {"model": run, "output": output, "dtype": dtype, "sequences": 1}
    export(ExportConfig.model_validate(settings))
    source = open_checkpoint(run)
    model, tokenizer = source.model, find_tokenizer(source)
    text = trained_text(model, source.metadata, tokenizer)
    tensors: dict[str, torch.Tensor] = dict(source.tensors)
    if dtype == "bfloat16":
        tensors = {key: tensor.bfloat16().float() for key, tensor in tensors.items()}
    is_encoder = text.call.mask is not None
    calls = calls_of(tokenizer, text.call, model.seq_length)

    def logits_of(ids: list[int]) -> torch.Tensor:
        return reference_logits(model, tensors, torch.tensor([ids]))[0, :, : model.vocab_size]

    found = {str(n): logits_of(ids) for n, (_, ids) in enumerate(calls) if ids}
    expected = common(name, output, tokenizer, text, calls, folder, found) | {
        "kind": "masked" if is_encoder else "causal",
        "checks": _MASKED if is_encoder else _CAUSAL,
    }
    if is_encoder:
        return expected
    return expected | continued(tokenizer, text, logits_of, model.seq_length)


def continued(tokenizer: Tokenizer, text: TrainedText, logits_of: Any, length: int) -> dict[str, Any]:
    """The greedy continuation of a prompt and the likelihood of whole texts, by our own model."""
    prompt = "The try statement"
    ids, new = tokenizer.encode(prompt), []
    for _ in range(NUM_NEW):
        new.append(int(logits_of(ids + new)[-1].argmax()))
        if new[-1] == tokenizer.role("end_of_document"):
            break
    rolling = {}
    for probe in ("the old ship sails over a sea", "def f(x):\n    return x", "日本"):
        row = tokenizer.encode(probe)[: length - 1]
        read = [text.ids.begin_of_document, *row[:-1]]
        log_p = torch.log_softmax(logits_of(read).double(), -1)
        rolling[probe] = float(log_p[torch.arange(len(row)), torch.tensor(row)].sum())
    return {"prompt": prompt, "greedy": new, "rolling": rolling}


def expect_classifier(name: str, source: Path, run: Path, folder: Path) -> dict[str, Any]:
    """A classifier of a run or its export, with a new head; what a reader of its directory has to find."""
    output = folder / "classifiers" / name
    output.mkdir(parents=True)
    pretrained = read_pretrained(source)
    template = text_template(pretrained, 32)
    fields = {"num_labels": 3, "pad_token_id": template.pad}
    torch.manual_seed(0)
    network = head_network("AutoModelForSequenceClassification", pretrained, fields)
    save_network(output, network, network.state_dict())
    save_tokenizer(output, pretrained, template)
    network = load_network("AutoModelForSequenceClassification", output)
    checkpoint = open_checkpoint(run)
    tokenizer = find_tokenizer(checkpoint)
    call = PlainCall(template.before, template.after, pretrained.has_token_types, keeps_spellings=True)
    calls = calls_of(tokenizer, call, 32, with_spellings=True)
    with torch.no_grad():
        found = {str(n): network(torch.tensor([ids])).logits[0] for n, (_, ids) in enumerate(calls) if ids}
    text = trained_text(checkpoint.model, checkpoint.metadata, tokenizer)
    expected = common(name, output, tokenizer, TrainedText(text.ids, call, text.start), calls, folder, found)
    return expected | {"kind": "classifier", "checks": ["plain calls", "special tokens by text", "outputs of a call"]}


def first_token_losses(expected: dict[str, Any], folder: Path) -> dict[str, float]:
    """Mean loss of the first token of the pretraining documents after the token that begins a text, and after the one
    that the tokenizer has for it and no document held; by their spelling, in nats."""
    source = open_checkpoint(folder / "runs" / "pretrained")
    tokenizer = find_tokenizer(source)
    lines = (folder / "corpus" / "text.jsonl").read_text("utf-8").splitlines()
    firsts = torch.tensor([tokenizer.encode(json.loads(line)["text"])[0] for line in lines])
    losses = {}
    for number in (expected["begin"], tokenizer.role("beginning_of_document")):
        logits = reference_logits(source.model, source.tensors, torch.tensor([[number]]))[0, 0, : tokenizer.vocab_size]
        losses[tokenizer.piece(number)] = float(-torch.log_softmax(logits, -1)[firsts].mean())
    return losses


def calls_of(
    tokenizer: Tokenizer, call: PlainCall, length: int, *, with_spellings: bool = False
) -> list[tuple[str, list[int]]]:
    """Texts that a model can read whole, and the ids that it was trained on."""
    spelled = [tokenizer.piece(number) for number in special_ids(tokenizer)]
    texts = [text for text in PROBES if with_spellings or not any(each in text for each in spelled)]
    rows = [(text, call.around(list(tokenizer.encode(text)))) for text in texts]
    return [(text, ids) for text, ids in rows if len(ids) < length - NUM_NEW]


def special_ids(tokenizer: Tokenizer) -> list[int]:
    return [number for number in range(tokenizer.vocab_size) if tokenizer.is_special(number)]


def common(
    name: str,
    output: Path,
    tokenizer: Tokenizer,
    text: TrainedText,
    calls: list[tuple[str, list[int]]],
    folder: Path,
    logits: dict[str, torch.Tensor],
) -> dict[str, Any]:
    """What is asked of every directory."""
    from safetensors.torch import save_file

    special = []
    for number in special_ids(tokenizer):
        spelled = f"a{tokenizer.piece(number)}"
        kept = list(tokenizer.encode(spelled))
        row = kept if text.call.keeps_spellings else [*tokenizer.encode("a"), number]
        special.append((spelled, text.call.around(row), kept))
    file = folder / f"{name}.safetensors"
    save_file({key: value.contiguous() for key, value in logits.items()}, file)
    unknown = tokenizer.role("unknown")
    return {
        "name": name,
        "path": str(output),
        "calls": calls,
        "inputs": text.call.model_inputs,
        "special": special,
        "begin": text.ids.begin_of_document,
        "end": tokenizer.role("end_of_document"),
        "control": [number for number in special_ids(tokenizer) if number != unknown],
        "vocab_size": tokenizer.vocab_size,
        "logits": str(file),
        "tolerance": TOLERANCE,
    }
