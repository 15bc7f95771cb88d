"""BERT with norms before the blocks and one at the end, none at the embedding (Shoeybi et al. 2019, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping

from pretrain.models.encoder.bert_config import BertConfig
from pretrain.models.huggingface.bert import Bert
from pretrain.models.huggingface.encoder_layers import layer_rules
from pretrain.models.huggingface.rules import Rule, linear


class MegatronBert(Bert):
    """See `HuggingFaceFamily`. Names of tensors are BERT's but for the norms."""

    model_type = "megatron-bert"
    norm_placement = "pre"
    classes: Mapping[str, str] = {
        "masked": "MegatronBertForMaskedLM",
        "pretraining": "MegatronBertForPreTraining",
        "classification": "MegatronBertForSequenceClassification",
    }

    def body_rules(self, model: BertConfig) -> list[Rule]:
        """See the base class."""
        layers = layer_rules("bert", "attention.ln", "ln", model)
        return layers + linear("encoder.final_layernorm", "bert.encoder.ln", bias=True)
