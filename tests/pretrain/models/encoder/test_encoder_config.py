"""What the encoders declare: sizes as published, what each has and has not, operations of windows."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from pretrain.config.kinds import FAMILIES
from pretrain.models.encoder.bert_config import BertConfig, RobertaConfig
from pretrain.models.encoder.config import EncoderConfig
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.parameter_table import Normal

BASE: dict[str, Any] = {"num_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "seq_length": 512}
MODERN_BASE: dict[str, Any] = BASE | {"num_layers": 22, "ffn_hidden_size": 1152, "seq_length": 8192}


def names(model: EncoderConfig) -> set[str]:
    return {spec.name for spec in model.parameters()}


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        # BertForPreTraining of bert-base-uncased, RobertaForMaskedLM of roberta-base, ModernBertForMaskedLM of
        # ModernBERT-base: counted with transformers, whose classes tie the decoder as ours do.
        (BertConfig(**BASE, vocab_size=30522, vocab_multiple=1), 110_106_428),
        (RobertaConfig(**BASE, vocab_size=50265, vocab_multiple=1), 124_697_433),
        (ModernEncoderConfig(**MODERN_BASE, vocab_size=50368, vocab_multiple=1), 149_655_232),
    ],
    ids=["bert-base", "roberta-base", "ModernBERT-base"],
)
def test_published_sizes_have_the_published_number_of_parameters(model: EncoderConfig, parameters: int) -> None:
    assert model.num_parameters() == parameters


def test_norms_stand_where_the_placement_says() -> None:
    post, pre = (BertConfig(**BASE, vocab_size=100, norm_placement=placement) for placement in ("post", "pre"))
    assert names(post) - names(pre) == {"embedding.norm.weight", "embedding.norm.bias"}
    assert names(pre) - names(post) == {"encoder.final_layernorm.weight", "encoder.final_layernorm.bias"}


def test_only_bert_with_a_pooler_has_a_pair_head() -> None:
    with_pooler, without = (BertConfig(**BASE, vocab_size=100, pooler=pooler) for pooler in (True, False))
    assert names(with_pooler) - names(without) == {
        f"{module}.{part}" for module in ("pooler.dense", "pair_head") for part in ("weight", "bias")
    }
    others = (RobertaConfig(**BASE, vocab_size=100), ModernEncoderConfig(**BASE, vocab_size=100))
    assert [model.has_pair_head for model in (with_pooler, without, *others)] == [True, False, False, False]


def test_the_modern_encoder_has_one_bias_and_no_first_attention_norm() -> None:
    found = names(ModernEncoderConfig(**BASE, vocab_size=100))
    assert {name for name in found if name.endswith("bias")} == {"output_layer.bias"}
    assert "encoder.layers.0.input_layernorm.weight" not in found
    assert "encoder.layers.1.input_layernorm.weight" in found


def test_weights_are_scaled_with_depth_where_norms_stand_before_the_blocks() -> None:
    def stds(model: EncoderConfig) -> set[float]:
        return {round(spec.init.std, 6) for spec in model.parameters() if isinstance(spec.init, Normal)}

    assert stds(BertConfig(**BASE, vocab_size=100)) == {0.02}
    assert stds(RobertaConfig(**BASE, vocab_size=100)) == {0.02}
    assert stds(BertConfig(**BASE, vocab_size=100, norm_placement="pre")) == {0.02, 0.004082}
    assert stds(ModernEncoderConfig(**BASE, vocab_size=100)) == {0.02, 0.004082}


def test_local_layers_count_the_operations_of_their_window_only() -> None:
    model = ModernEncoderConfig(**BASE | {"num_layers": 4}, vocab_size=100)
    assert [model.window(layer) for layer in range(4)] == [None, 64, 64, None]
    assert model.attention_flops_per_token() == 12 * 768 * (512 + 129 + 129 + 512)
    short = ModernEncoderConfig(**BASE | {"num_layers": 4, "seq_length": 100}, vocab_size=100)
    assert short.attention_flops_per_token() == 12 * 768 * 4 * 100


def test_what_runs_once_per_sample_counts_its_share() -> None:
    with_pooler, without = (BertConfig(**BASE, vocab_size=100, pooler=pooler) for pooler in (True, False))
    more = with_pooler.num_parameters() - without.num_parameters()
    assert with_pooler.flops_per_token() - without.flops_per_token() == pytest.approx(6 * more / 512)


def test_dropout_that_transformers_puts_elsewhere_is_noted() -> None:
    assert ModernEncoderConfig(**BASE, vocab_size=100).notes() == []
    (note,) = ModernEncoderConfig(**BASE, vocab_size=100, hidden_dropout=0.1).notes()
    assert "model.hidden_dropout 0.1" in note and "transformers" in note
    assert BertConfig(**BASE, vocab_size=100, hidden_dropout=0.1).notes() == []


def test_rotary_positions_need_an_even_head_size() -> None:
    with pytest.raises(ValidationError, match="rotary positions need an even head size; hidden_size / heads is 5"):
        ModernEncoderConfig(**BASE | {"hidden_size": 60}, vocab_size=100)


def test_declarations_import_no_torch() -> None:
    modules = ", ".join({FAMILIES.targets[name].split(":")[0] for name in ("bert", "roberta", "modern-encoder")})
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
