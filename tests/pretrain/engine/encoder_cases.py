"""The layouts of the encoders that must train as one process does: BERT with norms after and before, RoBERTa, modern.

Shape letters: B micro-batch, S tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from tests.pretrain.engine.encoder_objective import MadeUpMaskedConfig
from tests.pretrain.engine.layout_cases import SEQ_LENGTH, VOCAB, Case

SIZES: dict[str, Any] = {
    "num_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "ffn_hidden_size": 128,
    "seq_length": SEQ_LENGTH,
    "vocab_size": VOCAB,
}
# At the usual 0.02 attention is nearly uniform at the start, and hardly shows what it sees. In bf16 the usual one is
# kept: with larger weights a first step that agrees to 2e-5 is off by 2e-3 after three updates, by Adam's amplification
# of rounding.
INIT_STD = {"fp32": 0.1, "bf16": 0.02}
MASK_ID, MASK_RATE = 3, 0.2


@dataclass(frozen=True)
class EncoderCase(Case):
    """A layout of an encoder: `family` is bert, bert_pre, roberta or modern."""

    @property
    def peak_lr(self) -> float:
        """See the base class. The 16 pairs of a batch give a noisier gradient than GPT's 512 labels: less in bf16."""
        return 1e-2 if self.precision == "fp32" else 2e-4

    def model_config(self) -> ModelConfig:
        """See the base class."""
        sizes = SIZES | {"init_std": INIT_STD[self.precision]}
        if self.family == "modern":
            return ModernEncoderConfig(**(sizes | {"local_window": 8} | self.model))
        if self.family == "roberta":
            return RobertaConfig(**(sizes | self.model))
        placement = "pre" if self.family == "bert_pre" else "post"
        return BertConfig(**(sizes | {"norm_placement": placement} | self.model))

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        return {"objective": MadeUpMaskedConfig()}

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class. Modern: each sample holds three documents; else a pair of texts, padded."""
        generator = torch.Generator().manual_seed(9000 + step)
        count, size = self.global_batch_size, self.micro_batch_size
        labels = torch.randint(MASK_ID + 1, VOCAB, (count, SEQ_LENGTH), generator=generator)
        is_masked = torch.rand(labels.shape, generator=generator) < MASK_RATE
        cuts = torch.randint(8, SEQ_LENGTH + 1, (count, 2), generator=generator).sort(1).values
        pair_labels = torch.randint(0, 2, (count,), generator=generator)
        places = torch.arange(SEQ_LENGTH).expand(count, -1)
        part = (places[..., None] >= cuts[:, None, :]).sum(-1)
        extras = {"token_types_BS": (part == 1).long(), "pair_labels_B": pair_labels}
        positions, segments = places, (part == 2).long()
        if self.family == "modern":
            starts = torch.cat([torch.zeros_like(cuts[:, :1]), cuts], 1)
            positions, segments, extras = places - starts.gather(1, part), part, {}
        else:
            is_masked &= segments == 0
            if self.family == "roberta":
                extras = {}
        tokens = labels.masked_fill(is_masked, MASK_ID)
        batches = []
        for number in range(data_rank, count // size, data_size):
            chosen = slice(number * size, (number + 1) * size)
            batches.append(
                MicroBatch(
                    tokens_BS=tokens[chosen],
                    labels_BS=labels[chosen],
                    loss_mask_BS=is_masked[chosen].float(),
                    position_ids_BS=positions[chosen].contiguous(),
                    segment_ids_BS=segments[chosen],
                    number=number,
                    extras={name: tensor[chosen] for name, tensor in extras.items()},
                )
            )
        return batches


def _case(family: str, name: str, ranks: int, zero: int, tensor: int = 1, pipeline: int = 1, **options: Any) -> Case:
    keys = ("sequence_parallel", "recompute")
    parallel = {"zero_stage": zero, "tensor_size": tensor, "pipeline_size": pipeline, "zero3_persistent_elements": 0}
    parallel |= {key: options.pop(key) for key in keys if key in options}
    return EncoderCase(f"{family}, {name}", ranks, parallel, family=family, **options)


_SP = {"sequence_parallel": True}
_NO_PAIR = {"model": {"pooler": False}}
_HIDDEN_DROPOUT = {"model": {"hidden_dropout": 0.1}}
_DROPOUT = {"model": {"hidden_dropout": 0.1, "attention_dropout": 0.1}}


def _of_every_family(family: str) -> list[Case]:
    return [
        _case(family, "zero 0, data 2", 2, 0),
        _case(family, "zero 1, data 2", 2, 1),
        _case(family, "zero 2, data 2", 2, 2),
        _case(family, "zero 3, data 2", 2, 3),
        _case(family, "zero 0, tensor 2", 2, 0, tensor=2),
        _case(family, "zero 1, tensor 2, sequence", 2, 1, tensor=2, **_SP),
        _case(family, "zero 3, tensor 2, sequence", 2, 3, tensor=2, **_SP),
        _case(family, "zero 2, pipeline 2", 2, 2, pipeline=2),
        _case(family, "zero 3, pipeline 4", 4, 3, pipeline=4),
        _case(family, "zero 2, tensor 2, sequence, pipeline 2, data 2", 8, 2, tensor=2, pipeline=2, **_SP),
        _case(family, "zero 3, tensor 2, pipeline 2", 4, 3, tensor=2, pipeline=2),
        _case(family, "zero 3, data 2, recompute full", 2, 3, recompute="full"),
        _case(family, "zero 1, pipeline 2, recompute selective", 2, 1, pipeline=2, recompute="selective"),
        _case(
            family,
            "zero 2, tensor 2, sequence, pipeline 2, hidden dropout",
            4,
            2,
            tensor=2,
            pipeline=2,
            **_SP,
            **_HIDDEN_DROPOUT,
        ),
        _case(family, "zero 1, data 2, dropout, recompute full", 2, 1, recompute="full", **_DROPOUT),
        _case(family, "zero 2, data 2, bf16", 2, 2, precision="bf16"),
        _case(
            family, "zero 3, tensor 2, sequence, pipeline 2, bf16", 4, 3, tensor=2, pipeline=2, precision="bf16", **_SP
        ),
    ]


ENCODER_CASES: tuple[Case, ...] = (
    *_of_every_family("bert"),
    *_of_every_family("bert_pre"),
    *_of_every_family("modern"),
    _case("bert", "no pair, zero 3, tensor 2, sequence, pipeline 2", 4, 3, tensor=2, pipeline=2, **_SP, **_NO_PAIR),
    _case("bert", "no pair, zero 1, data 2", 2, 1, **_NO_PAIR),
    _case("bert_pre", "no pair, zero 2, pipeline 2", 2, 2, pipeline=2, **_NO_PAIR),
    _case("roberta", "zero 2, tensor 2, sequence", 2, 2, tensor=2, **_SP),
    _case("roberta", "zero 3, pipeline 2, data 2", 4, 3, pipeline=2),
)
