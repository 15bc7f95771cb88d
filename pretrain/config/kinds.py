"""The names that a run's config knows: model families, methods, objectives, optimizers, each with its declaration."""

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
NETWORK_METHODS = Kinds(
    what="training method",
    targets={
        "full": "pretrain.config.method:WholeNetwork",
        "lora": "pretrain.config.method:LowRankMethod",
    },
    default="full",
)
OBJECTIVES = Kinds(
    what="objective",
    targets={
        "causal": "pretrain.objectives.causal_config:CausalConfig",
        "fill_in_middle": "pretrain.objectives.fill_in_middle_config:FillInMiddleConfig",
        "prefix": "pretrain.objectives.prefix_config:PrefixConfig",
        "instruct": "pretrain.objectives.instruct_config:InstructConfig",
        "mixture": "pretrain.objectives.mixture_config:MixtureConfig",
        "masked": "pretrain.objectives.masked_config:MaskedConfig",
        "masked_pairs": "pretrain.objectives.pair_config:MaskedPairsConfig",
        "masked_sequence": "pretrain.objectives.masked_sequence_config:MaskedSequenceConfig",
        "ul2": "pretrain.objectives.ul2_config:MixtureOfDenoisersConfig",
        "text_infilling": "pretrain.objectives.text_infilling_config:TextInfillingConfig",
        "span_corruption": "pretrain.objectives.span_corruption_config:SpanCorruptionConfig",
    },
    default="causal",
)
OPTIMIZERS = Kinds(
    what="optimizer",
    targets={
        "adamw": "pretrain.optimizers.adamw_config:AdamWConfig",
        "sgd": "pretrain.optimizers.sgd_config:SGDConfig",
        "adagrad": "pretrain.optimizers.adagrad_config:AdagradConfig",
        "lion": "pretrain.optimizers.lion_config:LionConfig",
        "lamb": "pretrain.optimizers.lamb_config:LambConfig",
        "adafactor": "pretrain.optimizers.adafactor_config:AdafactorConfig",
        "muon": "pretrain.optimizers.muon_config:MuonConfig",
    },
    default="adamw",
)
