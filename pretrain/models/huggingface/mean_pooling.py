"""Sequence classification from the mean of an encoder's last hidden states, where transformers' own class reads [CLS].

This file is written beside the weights of such a classifier, so it imports transformers and torch alone:
`AutoModelForSequenceClassification.from_pretrained(directory, trust_remote_code=True)` reads the class from there. The
names of the model types are not transformers' own: without the argument nothing loads, rather than a classifier that
reads [CLS] through weights that were never trained.

The head is dropout and one linear layer on the mean over the tokens that the attention mask keeps, special ones
included, in fp32 (Reimers and Gurevych 2019, section 3, "MEAN"; the layer as in `BertForSequenceClassification`).

Shape letters: B texts, C labels, H hidden size, S tokens.
"""

from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    MegatronBertConfig,
    MegatronBertModel,
    MegatronBertPreTrainedModel,
    RobertaConfig,
    RobertaModel,
    RobertaPreTrainedModel,
)
from transformers.modeling_outputs import SequenceClassifierOutput


class BertMeanPoolingConfig(BertConfig):
    """BERT's config, of a classifier that reads the mean."""

    model_type = "bert-mean-pooling"


class MegatronBertMeanPoolingConfig(MegatronBertConfig):
    """MegatronBERT's config, of a classifier that reads the mean."""

    model_type = "megatron-bert-mean-pooling"


class RobertaMeanPoolingConfig(RobertaConfig):
    """RoBERTa's config, of a classifier that reads the mean."""

    model_type = "roberta-mean-pooling"


def mean_of_tokens(hidden_BSH, mask_BS=None):
    """The mean over the tokens where the mask is not 0, fp32 [B, H]; without a mask, over all."""
    if mask_BS is None:
        return hidden_BSH.float().mean(1)
    weights_BS1 = mask_BS.unsqueeze(-1).float()
    return (hidden_BSH.float() * weights_BS1).sum(1) / weights_BS1.sum(1).clamp(min=1.0)


class _MeanPooling:
    """What the classes below share; `body_class` is the encoder's, the rest is transformers'."""

    body_class: Any
    base_model_prefix: str
    post_init: Any

    def __init__(self, config):
        super().__init__(config)  # type: ignore[call-arg]
        self.num_labels = config.num_labels
        setattr(self, self.base_model_prefix, self.body_class(config, add_pooling_layer=False))
        rate = getattr(config, "classifier_dropout", None)
        self.dropout = torch.nn.Dropout(config.hidden_dropout_prob if rate is None else rate)
        self.classifier = torch.nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        token_type_ids=None,
        position_ids=None,
        inputs_embeds=None,
        labels=None,
        **kwargs,
    ):
        """Logits [B, C] and, with `labels` int64 [B], their mean cross-entropy.

        Args:
            input_ids: int64 [B, S].
            attention_mask: [B, S], 0 at padding; None: there is none.
            token_type_ids: int64 [B, S].
            position_ids: int64 [B, S].
            inputs_embeds: [B, S, H] in place of `input_ids`.
            labels: int64 [B].
            kwargs: what else the encoder takes.
        """
        given = {"token_type_ids": token_type_ids, "position_ids": position_ids, "inputs_embeds": inputs_embeds}
        returns_dict = kwargs.pop("return_dict", None)
        body = getattr(self, self.base_model_prefix)
        found = body(input_ids, attention_mask=attention_mask, return_dict=True, **given, **kwargs)
        pooled_BH = mean_of_tokens(found.last_hidden_state, attention_mask)
        logits_BC = self.classifier(self.dropout(pooled_BH.to(self.classifier.weight.dtype)))
        loss = None if labels is None else torch.nn.functional.cross_entropy(logits_BC.float(), labels.view(-1))
        output = SequenceClassifierOutput(
            loss=loss, logits=logits_BC, hidden_states=found.hidden_states, attentions=found.attentions
        )
        return output.to_tuple() if returns_dict is False else output


class BertMeanPoolingForSequenceClassification(_MeanPooling, BertPreTrainedModel):
    """BERT under a classifier of the mean."""

    config_class, body_class = BertMeanPoolingConfig, BertModel


class MegatronBertMeanPoolingForSequenceClassification(_MeanPooling, MegatronBertPreTrainedModel):
    """MegatronBERT under a classifier of the mean."""

    config_class, body_class = MegatronBertMeanPoolingConfig, MegatronBertModel


class RobertaMeanPoolingForSequenceClassification(_MeanPooling, RobertaPreTrainedModel):
    """RoBERTa under a classifier of the mean."""

    config_class, body_class = RobertaMeanPoolingConfig, RobertaModel
