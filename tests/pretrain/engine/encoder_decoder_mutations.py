"""Ways to break the encoder-decoders that are silent and wrong when missed."""

from __future__ import annotations

from typing import Any

import torch

from tests.pretrain.engine.broken_engine import Differs, Mutation, Saboteur
from tests.pretrain.engine.layout_cases import Case


def _buckets_for_both_directions(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder import relative_bias

    original = relative_bias.relative_buckets

    def for_both(distance: torch.Tensor, buckets: int, max_distance: int, *, is_bidirectional: bool) -> torch.Tensor:
        return original(distance, buckets, max_distance, is_bidirectional=True)

    saboteur.replace(relative_bias, "relative_buckets", for_both)


def _decoder_sees_the_future(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder import layer, stage

    bias, spec = stage._relative_bias, layer.portable_layer_spec
    if case.family.startswith("t5"):
        saboteur.replace(stage, "_relative_bias", lambda *given, is_causal: bias(*given, is_causal=False))
    else:
        saboteur.replace(layer, "portable_layer_spec", lambda config, *, is_causal: spec(config, is_causal=False))


def _padding_seen_across(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder import stage

    saboteur.replace(stage, "cross_visible", lambda segment_ids_BS, visible_BS: visible_BS)


def _hidden_tokens_seen_across(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder import stage

    original = stage.cross_visible
    saboteur.replace(stage, "cross_visible", lambda segment_ids_BS, visible_BS: original(segment_ids_BS, None))


def _output_not_scaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder.stage import EncoderDecoder

    original = EncoderDecoder.__init__

    def build(self: Any, model: Any, config: Any) -> None:
        original(self, model, config)
        self.output_scale = 1.0

    saboteur.replace(EncoderDecoder, "__init__", build)


def _scores_scaled(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder import network

    original = network.megatron_config

    def scaled(model: Any, parallel: Any, dtype: torch.dtype, **more: Any) -> Any:
        return original(model, parallel, dtype, **(more | {"softmax_scale": None}))

    saboteur.replace(network, "megatron_config", scaled)


def _bias_gradient_of_the_first_layer(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder.layer import EncoderDecoderLayer

    original = EncoderDecoderLayer.forward

    def forward(self: Any, hidden_states: torch.Tensor, *, rotary_pos_emb: torch.Tensor, **inputs: Any) -> Any:
        bias = rotary_pos_emb if self.layer_number == 1 else rotary_pos_emb.detach()
        return original(self, hidden_states, rotary_pos_emb=bias, **inputs)

    saboteur.replace(EncoderDecoderLayer, "forward", forward)


def _inner_dropout_of_the_first_rank(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.encoder_decoder.layer import DroppedInputLinear

    original = DroppedInputLinear.forward

    def forward(self: Any, input_: torch.Tensor) -> Any:
        self.tensor_rank = 0
        return original(self, input_)

    saboteur.replace(DroppedInputLinear, "forward", forward)


def _targets_smoothed_over_the_padding(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.family import Output

    original = Output.mean_logit
    saboteur.replace(Output, "mean_logit", lambda self, num_ids: original(self, case.model_config().padded_vocab_size))


def _log_z_left_out(case: Case, saboteur: Saboteur) -> None:
    from pretrain.models.family import Output

    original = Output.log_z
    saboteur.replace(Output, "log_z", lambda self: original(self).detach())


ENCODER_DECODER_MUTATIONS: dict[str, Mutation] = {
    "the decoder's buckets for both directions": Mutation(
        19, "t5, zero 1, data 2", _buckets_for_both_directions, Differs(norm=2e-3)
    ),
    "a decoder that sees the future": Mutation(
        19, "t5, zero 1, data 2", _decoder_sees_the_future, Differs(loss=2e-3, norm=2e-2)
    ),
    "a decoder that sees padding of the encoder": Mutation(
        19, "t5_1.1, zero 1, data 2", _padding_seen_across, Differs(loss=1e-3, norm=1e-2)
    ),
    "a decoder that sees what is hidden from it": Mutation(
        19, "bart_pre, zero 1, data 2", _hidden_tokens_seen_across, Differs(loss=1e-3, norm=2e-3)
    ),
    "the output not scaled by the width": Mutation(
        19, "t5, zero 1, data 2", _output_not_scaled, Differs(loss=1e-2, norm=1e-2)
    ),
    "scores scaled by the head size": Mutation(
        19, "t5_1.1, zero 1, data 2", _scores_scaled, Differs(loss=1e-3, norm=1e-2)
    ),
    "the bias table's gradient of the first layer alone": Mutation(
        19, "t5, zero 1, tensor 2, sequence", _bias_gradient_of_the_first_layer, Differs(norm=1e-3)
    ),
    "the MLP's dropout of the first tensor rank on all": Mutation(
        9,
        "t5_1.1, zero 1, tensor 2, sequence, hidden dropout",
        _inner_dropout_of_the_first_rank,
        Differs(loss=1e-3, norm=2e-3),
    ),
    "targets smoothed over padded ids": Mutation(
        13,
        "t5_1.1, span_corruption, z and smoothing, zero 1, tensor 2",
        _targets_smoothed_over_the_padding,
        Differs(loss=1e-3, norm=1e-3),
    ),
    "no gradient of log Z": Mutation(
        13,
        "t5_1.1, span_corruption, z and smoothing, zero 1, tensor 2",
        _log_z_left_out,
        Differs(norm=1e-3),
    ),
    "BART's decoder that sees the future": Mutation(
        17, "bart, zero 1, data 2", _decoder_sees_the_future, Differs(loss=2e-3, norm=2e-2)
    ),
}
