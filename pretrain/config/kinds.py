"""The names that a run's config knows: model families, objectives, optimizers, each with its declaration."""

from __future__ import annotations

from configs.kinds import Kinds

FAMILIES = Kinds(
    what="model family",
    targets={
        "gpt": "pretrain.models.gpt.config:GPTConfig",
        "bert": "pretrain.models.encoder.bert_config:BertConfig",
        "roberta": "pretrain.models.encoder.bert_config:RobertaConfig",
        "modern-encoder": "pretrain.models.encoder.modern_config:ModernEncoderConfig",
        "t5": "pretrain.models.encoder_decoder.t5_config:T5Config",
        "bart": "pretrain.models.encoder_decoder.bart_config:BartConfig",
    },
    default="gpt",
)
OBJECTIVES = Kinds(
    what="objective",
    targets={
        "causal": "pretrain.objectives.causal_config:CausalConfig",
        "masked": "pretrain.objectives.masked_config:MaskedConfig",
        "masked_pairs": "pretrain.objectives.pair_config:MaskedPairsConfig",
    },
    default="causal",
)
OPTIMIZERS = Kinds(
    what="optimizer",
    targets={
        "adamw": "pretrain.optimizers.adamw_config:AdamWConfig",
    },
    default="adamw",
)
