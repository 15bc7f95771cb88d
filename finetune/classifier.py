"""The network of a classifier: made from a checkpoint or an export, trained as a `Task`, saved, read back.

Shape letters: B samples, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from finetune import batches
from finetune.config import ClassifyConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.tokenizer import OWN_FOLDER, role_ids
from finetune.metrics import score
from finetune.text_codec import OwnCodec, TextCodec, TransformersCodec, load_codec
from pretrain.models.huggingface.family import to_config
from pretrain.models.huggingface.weights import to_hf

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Start:
    """What a classifier is made of.

    Attributes:
        hf_config: transformers' config of the causal model, with a pad token.
        tensors: its weights by transformers' names.
        codec: its tokenizer.
        context: tokens of a text that are read, the closing one included.
        closing: id that is put after each text; None: nothing is.
        provenance: where it comes from, for the record.
    """

    hf_config: dict[str, Any]
    tensors: Mapping[str, torch.Tensor]
    codec: TextCodec
    context: int
    provenance: dict[str, Any]
    closing: int | None = None

    @property
    def pad(self) -> int:
        """Id to pad with; never the last token of a text."""
        return int(self.hf_config["pad_token_id"])


@dataclass(frozen=True)
class Encoded:
    """Examples as numbers.

    Attributes:
        rows: token ids of each, cut to the longest that is read.
        gold: number of each label.
        cut: how many texts were longer.
    """

    rows: list[list[int]]
    gold: list[int]
    cut: int


def read_start(
    model: Path, max_tokens: int, tokenizer_dir: Path | None = None, append_end_of_document: bool = True
) -> Start:
    """Read a checkpoint of ours (any layout) or a Hugging Face directory.

    Args:
        model: where it is.
        max_tokens: how much of a text is read; less where the model's context is shorter.
        tokenizer_dir: our tokenizer; None: the one that belongs to the model.
        append_end_of_document: whether that token closes each text.

    Raises:
        UserError: neither, damaged, without its tokenizer, or without a token to close texts or to pad with.
    """
    if (model / "config.json").is_file():
        start = _read_export(model, tokenizer_dir)
    else:
        start = _read_checkpoint(model, tokenizer_dir)
    codec = start.codec
    if append_end_of_document and codec.end_of_document is None:
        raise DataError(
            "has no end-of-document token",
            where=f"the tokenizer of {model}",
            expected="one, or data.append_end_of_document=false",
        )
    closing = codec.end_of_document if append_end_of_document else None
    # Transformers reads a text at its last token that is not the pad token: the two must differ.
    spare = [number for number in (codec.pad, codec.unknown, codec.end_of_document) if number is not None]
    pad = next((number for number in spare if number != closing), None)
    if pad is None:
        raise DataError(
            "has no token to pad with", where=f"the tokenizer of {model}", expected="a pad or unknown token"
        )
    context = min(start.context, max_tokens)
    return replace(start, hf_config=start.hf_config | {"pad_token_id": pad}, context=context, closing=closing)


def encode(start: Start, texts: Sequence[str], gold: list[int]) -> Encoded:
    """Token ids of the beginning of each text, closed if the classifier wants it."""
    close = [start.closing] if start.closing is not None else []
    room = start.context - len(close)
    rows = start.codec.encode_batch(texts)
    return Encoded([row[:room] + close for row in rows], gold, sum(len(row) > room for row in rows))


class Classification:
    """Training texts and validation texts of a classifier, for `finetune.loop.fit`.

    Args:
        config: batch sizes, seed, class weights.
        train: what is learned.
        validation: what chooses the best weights.
        labels: all labels.
        pad: id of the pad token.
        rank: this process.
        world_size: of how many.
    """

    def __init__(
        self,
        config: ClassifyConfig,
        train: Encoded,
        validation: Encoded,
        labels: list[str],
        *,
        pad: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.train, self.validation, self.labels, self.pad = train, validation, labels, pad
        self.rank, self.world_size = rank, world_size
        self.batch_size = config.training.batch_size
        self.micro_batch_size = config.training.micro_batch_size or config.training.batch_size // world_size
        self.order = batches.Order([len(row) for row in train.rows], self.batch_size, config.seed)
        counts = np.bincount(train.gold, minlength=len(labels))
        balanced = len(train.gold) / (len(labels) * np.maximum(counts, 1))
        self.label_weights = balanced if config.class_weights == "balanced" else np.ones(len(labels))

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which every training text is seen once."""
        return self.order.steps_per_epoch

    def losses(self, engine: Any, step: int) -> list[Callable[[], torch.Tensor]]:
        """Micro-batches of this rank, each as a function that computes its loss."""
        batch = self.order.step(step)
        mine = batches.share(batch, self.batch_size, self.rank, self.world_size, self.micro_batch_size)
        # DeepSpeed averages over ranks and micro-batches: with this divisor it comes to the mean over the real texts.
        divisor = len(batch) / (self.world_size * len(mine))
        return [lambda numbers=numbers: self._loss(engine, numbers, divisor) for numbers in mine]  # type: ignore[misc]

    def evaluate(self, engine: Any) -> dict[str, float]:
        """Accuracy, macro F1 and loss on the validation texts. Collective."""
        import torch.distributed as dist

        size = self.micro_batch_size
        grouped = batches.by_length([len(row) for row in self.validation.rows], size)
        # Every rank computes as many batches, of which the surplus ones count for nothing.
        rounds = -(-len(grouped) // self.world_size)
        mine = [grouped[min(n * self.world_size + self.rank, len(grouped) - 1)] for n in range(rounds)]
        engine.eval()
        found = probabilities(engine, self.validation.rows, mine, self.pad, engine.device)
        gathered: list[dict[int, npt.NDArray[np.float32]]] = [{}] * self.world_size
        dist.all_gather_object(gathered, found)
        merged = {number: row for part in gathered for number, row in part.items()}
        scores = np.stack([merged[number] for number in range(len(self.validation.rows))])
        figures = score(scores, self.validation.gold, self.labels)
        return {key: figures[key] for key in ("accuracy", "macro_f1", "loss")}

    def _loss(self, engine: Any, numbers: list[int], divisor: float) -> torch.Tensor:
        import torch

        # A place without a text repeats the first one, with no weight.
        rows = [self.train.rows[number] if number >= 0 else self.train.rows[0][:1] for number in numbers]
        gold = [self.train.gold[number] if number >= 0 else 0 for number in numbers]
        weights = [self.label_weights[label] if number >= 0 else 0.0 for number, label in zip(numbers, gold)]
        tokens_BS, mask_BS = batches.collate(rows, self.pad)
        device = engine.device
        logits_BC = engine(input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device)).logits.float()
        losses_B = torch.nn.functional.cross_entropy(logits_BC, torch.tensor(gold, device=device), reduction="none")
        return (losses_B * torch.tensor(weights, dtype=torch.float32, device=device)).sum() / divisor


def probabilities(
    model: Any, rows: Sequence[Sequence[int]], groups: Sequence[Sequence[int]], pad: int, device: Any = "cpu"
) -> dict[int, npt.NDArray[np.float32]]:
    """Probability of each label, float32 [C], by number of the text.

    Args:
        model: a sequence classifier, or an engine around one, in evaluation mode.
        rows: token ids of all texts.
        groups: numbers of the texts of each batch.
        pad: id of the pad token.
        device: where the model is.
    """
    import torch

    found: dict[int, npt.NDArray[np.float32]] = {}
    with torch.no_grad():
        for numbers in groups:
            tokens_BS, mask_BS = batches.collate([rows[number] for number in numbers], pad)
            logits_BC = model(input_ids=tokens_BS.to(device), attention_mask=mask_BS.to(device)).logits
            found |= dict(zip(numbers, torch.softmax(logits_BC.float(), -1).cpu().numpy()))
    return found


def save_classifier(
    folder: Path,
    model: PreTrainedModel,
    weights: Mapping[str, torch.Tensor],
    start: Start,
    labels: list[str],
    source: Path,
) -> None:
    """Write a Hugging Face directory: config, safetensors, tokenizer, and the labels as a file of their own."""
    from pretrain.models.huggingface.transformers_model import quiet_transformers, save_weights

    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtypes.pop()
    with quiet_transformers():
        model.config.save_pretrained(folder)
    save_weights(weights, folder / "model.safetensors")
    (folder / LABELS_FILE).write_text(json.dumps(labels, indent=2, ensure_ascii=False) + "\n", "utf-8")
    copy_tokenizer(start, folder, source)


def copy_tokenizer(start: Start, folder: Path, source: Path) -> None:
    """Give a classifier's directory its tokenizer: ours, and transformers' where there is an exact counterpart.

    Transformers' closes and pads texts as the classifier was trained, and knows where to cut them, without being told.
    """
    codec = start.codec
    if not isinstance(codec, OwnCodec):
        assert isinstance(codec, TransformersCodec)
        codec.tokenizer.model_max_length = start.context
        codec.tokenizer.pad_token = codec.tokenizer.convert_ids_to_tokens(start.pad)
        if start.closing is not None and hasattr(codec.tokenizer, "backend_tokenizer"):
            piece = codec.tokenizer.convert_ids_to_tokens(start.closing)
            hf_tokenizer.append_token(codec.tokenizer.backend_tokenizer, piece, start.closing)
        codec.tokenizer.save_pretrained(folder)
        if (source / OWN_FOLDER).is_dir():
            load_tokenizer(source / OWN_FOLDER).copy_to(folder / OWN_FOLDER)
        return
    codec.tokenizer.copy_to(folder / OWN_FOLDER)
    try:
        hf_tokenizer.save(codec.tokenizer, folder, start.context, pad=start.pad, append=start.closing)
        hf_tokenizer.check_same_ids(codec.tokenizer, folder)
    except DataError:
        # Our own tokenizer is there in any case; transformers' must not be there if it reads other ids.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink(missing_ok=True)


def _read_checkpoint(model: Path, tokenizer_dir: Path | None) -> Start:
    from finetune.sources import find_tokenizer, open_checkpoint

    source = open_checkpoint(model)
    tokenizer = find_tokenizer(source, tokenizer_dir)
    ids = role_ids(tokenizer)
    return Start(
        to_config(source.model, ids),
        dict(to_hf(source.tensors, source.model, ids)),
        OwnCodec(tokenizer),
        source.model.seq_length,
        {"model": str(source.path.absolute()), "step": source.metadata.get("step")},
    )


def _read_export(model: Path, tokenizer_dir: Path | None) -> Start:
    from pretrain.models.huggingface.transformers_model import load_causal

    causal = load_causal(model, "float32")
    codec = OwnCodec(load_tokenizer(tokenizer_dir)) if tokenizer_dir is not None else load_codec(model)
    if codec.vocab_size > causal.config.vocab_size:
        raise DataError(
            f"has {codec.vocab_size} ids",
            where=tokenizer_dir or f"the tokenizer in {model}",
            expected=f"at most {causal.config.vocab_size}, the model's vocabulary",
        )
    context = int(causal.config.max_position_embeddings)
    return Start(causal.config.to_dict(), causal.state_dict(), codec, context, {"model": str(model.absolute())})
