"""The layouts of the encoder-decoders that must train as one process does: both T5s, BART with norms after and before.

Shape letters: B micro-batch, S tokens that the encoder reads, T that the decoder reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from pretrain.config.model import ModelConfig
from pretrain.config.objective import ObjectiveConfig
from pretrain.data.batch import MicroBatch
from pretrain.models.encoder_decoder.bart_config import BartConfig
from pretrain.models.encoder_decoder.t5_config import T5Config
from tests.pretrain.engine.encoder_decoder_objective import MadeUpTargetsConfig
from tests.pretrain.engine.layout_cases import SEQ_LENGTH, VOCAB, Case

TARGET_LENGTH = 24
SIZES: dict[str, Any] = {
    "num_layers": 2,
    "num_decoder_layers": 3,
    "hidden_size": 64,
    "num_attention_heads": 4,
    "ffn_hidden_size": 128,
    "seq_length": SEQ_LENGTH,
    "decoder_seq_length": TARGET_LENGTH,
    "vocab_size": VOCAB,
}
T5_SIZES: dict[str, Any] = {"attention_head_size": 8, "relative_buckets": 8, "relative_max_distance": 20}
# See encoder_cases: what attention sees shows with larger weights than BART's usual ones, bf16's rounding less with
# smaller ones than T5's.
INIT_STD = {"fp32": 0.1, "bf16": 0.02}
T5_FACTOR = {"fp32": 1.0, "bf16": 0.3}
START_ID = 0


@dataclass(frozen=True)
class EncoderDecoderCase(Case):
    """A layout of an encoder-decoder: `family` is t5 (1.0), t5_1.1, bart or bart_pre."""

    @property
    def peak_lr(self) -> float:
        """See the base class."""
        return 1e-2 if self.precision == "fp32" else 2e-4

    def model_config(self) -> ModelConfig:
        """See the base class."""
        if self.family in ("t5", "t5_1.1"):
            first = {"activation": "relu", "tie_embeddings": True} if self.family == "t5" else {}
            return T5Config(**(SIZES | T5_SIZES | {"init_std": T5_FACTOR[self.precision]} | first | self.model))
        placement = "pre" if self.family == "bart_pre" else "post"
        sizes = SIZES | {"init_std": INIT_STD[self.precision], "norm_placement": placement, "output_bias": True}
        return BartConfig(**(sizes | self.model))

    def objective_config(self) -> dict[str, ObjectiveConfig]:
        """See the base class."""
        return {"objective": MadeUpTargetsConfig()}

    def micro_batches(self, step: int, data_rank: int, data_size: int) -> list[MicroBatch]:
        """See the base class: sources and targets of random lengths, a part of each source hidden from the decoder."""
        generator = torch.Generator().manual_seed(8000 + step)
        count, size = self.global_batch_size, self.micro_batch_size
        tokens = torch.randint(1, VOCAB, (count, SEQ_LENGTH), generator=generator)
        # Targets are in the source: what the decoder sees of it matters.
        labels = (tokens[:, :TARGET_LENGTH] * 3 + 1) % VOCAB
        source_ends = torch.randint(SEQ_LENGTH // 2, SEQ_LENGTH + 1, (count, 1), generator=generator)
        target_ends = torch.randint(4, TARGET_LENGTH + 1, (count, 1), generator=generator)
        hidden = torch.rand(tokens.shape, generator=generator) < 0.2
        places, target_places = (
            torch.arange(SEQ_LENGTH).expand(count, -1),
            torch.arange(TARGET_LENGTH).expand(count, -1),
        )
        segments, counting = -(places >= source_ends).long(), (target_places < target_ends).float()
        starts = torch.full((count, 1), START_ID)
        extras = {
            "decoder_tokens_BT": torch.cat([starts, labels[:, :-1]], 1),
            "decoder_position_ids_BT": target_places.contiguous(),
            "cross_visible_BS": ~hidden,
        }
        batches = []
        for number in range(data_rank, count // size, data_size):
            chosen = slice(number * size, (number + 1) * size)
            batches.append(
                MicroBatch(
                    tokens_BS=tokens[chosen],
                    labels_BS=labels[chosen].contiguous(),
                    loss_mask_BS=counting[chosen],
                    position_ids_BS=places[chosen].contiguous(),
                    segment_ids_BS=segments[chosen],
                    number=number,
                    extras={name: tensor[chosen] for name, tensor in extras.items()},
                )
            )
        return batches


def _case(family: str, name: str, ranks: int, zero: int, tensor: int = 1, **options: Any) -> Case:
    keys = ("sequence_parallel", "recompute")
    parallel = {"zero_stage": zero, "tensor_size": tensor, "zero3_persistent_elements": 0}
    parallel |= {key: options.pop(key) for key in keys if key in options}
    return EncoderDecoderCase(f"{family}, {name}", ranks, parallel, family=family, **options)


_SP = {"sequence_parallel": True}
_PLACED_DROPOUT = {"model": {"hidden_dropout": 0.1, "activation_dropout": 0.1}}
_DROPOUT = {"model": {"hidden_dropout": 0.1, "activation_dropout": 0.1, "attention_dropout": 0.1}}


def _of_every_family(family: str) -> list[Case]:
    return [
        _case(family, "zero 0, data 2", 2, 0),
        _case(family, "zero 1, data 2", 2, 1),
        _case(family, "zero 2, data 2", 2, 2),
        _case(family, "zero 3, data 2", 2, 3),
        _case(family, "zero 0, tensor 2", 2, 0, tensor=2),
        _case(family, "zero 1, tensor 2, sequence", 2, 1, tensor=2, **_SP),
        _case(family, "zero 2, tensor 2, sequence, data 2", 4, 2, tensor=2, **_SP),
        _case(family, "zero 3, tensor 2, sequence, data 2", 4, 3, tensor=2, **_SP),
        _case(family, "zero 3, tensor 4", 4, 3, tensor=4),
        _case(family, "zero 3, data 2, recompute full", 2, 3, recompute="full"),
        _case(family, "zero 2, tensor 2, sequence, recompute selective", 2, 2, tensor=2, recompute="selective", **_SP),
        _case(family, "zero 1, tensor 2, sequence, hidden dropout", 2, 1, tensor=2, **_SP, **_PLACED_DROPOUT),
        _case(family, "zero 1, data 2, dropout, recompute full", 2, 1, recompute="full", **_DROPOUT),
        _case(family, "zero 2, data 2, bf16", 2, 2, precision="bf16"),
        _case(family, "zero 3, tensor 2, sequence, bf16", 2, 3, tensor=2, precision="bf16", **_SP),
    ]


ENCODER_DECODER_CASES: tuple[Case, ...] = (
    *_of_every_family("t5"),
    *_of_every_family("t5_1.1"),
    *_of_every_family("bart"),
    *_of_every_family("bart_pre"),
)
