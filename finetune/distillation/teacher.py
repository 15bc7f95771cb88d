"""A saved model as a teacher: read, frozen, at ZeRO-3 in partitions; and whether it reads and says the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError
from finetune.task_output import RECIPE
from finetune.tasks.label_names import LABELS_FILE

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel

WHERE = "distillation.teacher"
_COMPARED = 50
"""Texts of which the tokens of both networks are compared."""


def frozen_network(auto_class: str, folder: Path) -> Any:
    """A model with a head that a task saved, in fp32; no weight is trained. At ZeRO-3 no process holds all of it.

    Args:
        auto_class: which head, such as `AutoModelForSequenceClassification`.
        folder: what the task wrote.

    Raises:
        DataError: the weights cannot be read, or are not those of the class.
    """
    import torch
    import transformers
    from safetensors import SafetensorError, safe_open

    from finetune.network_building import fill_network, network_without_memory
    from pretrain.models.huggingface.transformers_model import load_config, quiet_transformers

    fields = {key: value for key, value in load_config(folder).items() if key not in ("architectures", "dtype")}
    with quiet_transformers():
        config = transformers.AutoConfig.for_model(**fields)
        make = partial(getattr(transformers, auto_class).from_config, config)
        model, partitioner = network_without_memory(make)
    model = model.to(dtype=torch.float32).eval()
    model.requires_grad_(False)
    try:
        with safe_open(folder / "model.safetensors", framework="pt") as file:
            names = set(file.keys())
            missing = {name for name, _ in model.named_parameters()} - names
            if missing:
                raise DataError(f"lacks {', '.join(sorted(missing)[:3])}", where=folder, expected="a whole model")
            fill_network(model, {name: file.get_tensor(name) for name in names}, names, partitioner)
    except (OSError, SafetensorError) as error:
        raise DataError(f"the weights cannot be read ({str(error).splitlines()[0]})", where=folder) from None
    return model


def check_labels(folder: Path, task: str, labels: Sequence[str]) -> None:
    """Refuse a teacher of another task, or of other labels.

    Raises:
        ConfigError: says what it is.
    """
    from configs.load import read_yaml

    name = read_yaml(folder / RECIPE).get("name") if (folder / RECIPE).is_file() else None
    if name != task:
        said = f"is {folder}, " + (f"what the task {name} wrote" if name else "which no task wrote")
        raise ConfigError(said, where=WHERE, expected=f"what `python -m finetune {task}` wrote")
    theirs = json.loads((folder / LABELS_FILE).read_text("utf-8"))
    if list(theirs) != list(labels):
        other = sorted(set(theirs) ^ set(labels)) or "another order"
        raise ConfigError(
            f"knows {len(theirs)} labels and the training texts have {len(labels)}; only one has {other}"[:300],
            where=WHERE,
            expected="the same labels in the same order, such as by data.labels",
        )


def check_rows(folder: Path, texts: Sequence[tuple[str, str | None]], rows: Sequence[Sequence[int]]) -> None:
    """Refuse a classifier whose tokenizer writes texts, or pairs, otherwise than they are encoded.

    Args:
        folder: the teacher.
        texts: of the training.
        rows: these as token ids.

    Raises:
        ConfigError: names the first text that comes out otherwise.
    """
    from finetune.predictors import transformers_tokenizer

    tokenizer = transformers_tokenizer(folder)
    for (first, second), row in zip(texts[:_COMPARED], rows):
        theirs = tokenizer(first, second, truncation=True)["input_ids"]
        if list(theirs) != list(row):
            raise ConfigError(
                f"reads {first[:60]!r} as {len(theirs)} other tokens than the {len(row)} of the model that learns",
                where=WHERE,
                expected="a teacher with its tokenizer, special tokens and data.max_tokens",
            )


def check_form(marker: Path, form: Mapping[str, Any]) -> None:
    """Refuse a tagger that reads other windows.

    Args:
        marker: its record.
        form: what stands around the tokens of a window, and how many they are.

    Raises:
        ConfigError: says what differs.
    """
    theirs = json.loads(marker.read_text("utf-8")).get("form")
    if theirs is None:
        raise ConfigError("says not how it reads texts: an older version wrote it", where=WHERE, expected="a newer one")
    # The token that pads is hidden from both.
    differing = [key for key in ("before", "after", "max_tokens") if theirs[key] != form[key]]
    if differing:
        told = ", ".join(f"{key} {theirs[key]} and not {form[key]}" for key in differing)
        raise ConfigError(
            f"reads windows with {told}", where=WHERE, expected="the same special tokens and data.max_tokens"
        )


def check_vocabulary(folder: Path, pretrained: PretrainedModel, texts: Sequence[str]) -> None:
    """Refuse a teacher whose tokenizer gives other ids.

    Args:
        folder: the teacher.
        pretrained: what learns from it.
        texts: some of the training.

    Raises:
        ConfigError: names the first text that comes out otherwise.
    """
    from finetune.pretrained import read_pretrained
    from finetune.text_codec import load_codec

    codec = load_codec(folder) if (folder / "config.json").is_file() else read_pretrained(folder).codec
    own = pretrained.codec
    rows = zip(texts, own.encode_batch(list(texts)), codec.encode_batch(list(texts)))
    differing = next((text for text, mine, theirs in rows if mine != theirs), None)
    if differing is not None or own.vocab_size != codec.vocab_size:
        said = f"cuts {differing[:60]!r} into other tokens" if differing is not None else f"has {codec.vocab_size} ids"
        raise ConfigError(
            f"{said} than {pretrained.path}",
            where=WHERE,
            expected="a teacher with the tokenizer of the model that learns",
        )
