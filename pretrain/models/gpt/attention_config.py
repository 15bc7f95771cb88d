"""What GPT's attention declares: its heads, its positions, what it sees, and how its products are scaled."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from configs.section import Section
from pretrain.models.width_scaling import WidthScaledConfig

_SCALING_KEYS = {
    "linear": (),
    "yarn": ("original_seq_length", "beta_fast", "beta_slow", "attention_factor"),
    "llama3": ("original_seq_length", "low_freq_factor", "high_freq_factor"),
}


class RotaryScaling(Section):
    """Slower rotary angles, for samples that are longer than those a model was trained with."""

    kind: Literal["linear", "yarn", "llama3"]
    """All angles divided by `factor` (Chen et al. 2023); fast ones by less (YaRN, Peng et al. 2023; Llama 3.1)."""
    factor: float = Field(ge=1)
    """Length now by length then: what slow angles are divided by."""
    original_seq_length: int | None = Field(default=None, gt=0)
    """yarn and llama3: tokens in a sample before."""
    low_freq_factor: float = Field(default=1.0, gt=0)
    """llama3: angles that turn less often than this over `original_seq_length` are divided by all of `factor`."""
    high_freq_factor: float = Field(default=4.0, gt=0)
    """llama3: angles that turn more often than this over `original_seq_length` are kept."""
    beta_fast: float = Field(default=32.0, gt=0)
    """yarn: angles that turn more often than this over `original_seq_length` are kept."""
    beta_slow: float = Field(default=1.0, gt=0)
    """yarn: angles that turn less often than this over `original_seq_length` are divided by all of `factor`."""
    attention_factor: float | None = Field(default=None, gt=0)
    """yarn: what queries and keys are multiplied by; null: 0.1 ln(factor) + 1."""

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> RotaryScaling:
        own = ("kind", "factor", *_SCALING_KEYS[self.kind])
        for key, field in type(self).model_fields.items():
            if key not in own and getattr(self, key) != field.default:
                kinds = " or ".join(kind for kind, keys in _SCALING_KEYS.items() if key in keys)
                raise ValueError(f"{key} is of kind {kinds}, and kind is {self.kind}; leave it out")
        if self.kind != "linear" and self.original_seq_length is None:
            raise ValueError(f"original_seq_length is null, and kind {self.kind} needs it; such as 8192")
        if self.low_freq_factor >= self.high_freq_factor:
            raise ValueError(
                f"low_freq_factor {self.low_freq_factor:g} is not below high_freq_factor {self.high_freq_factor:g}"
            )
        if self.beta_slow >= self.beta_fast:
            raise ValueError(f"beta_slow {self.beta_slow:g} is not below beta_fast {self.beta_fast:g}")
        return self

    @property
    def query_and_key_factor(self) -> float:
        """What queries and keys are multiplied by."""
        if self.kind != "yarn":
            return 1.0
        return self.attention_factor if self.attention_factor is not None else 0.1 * math.log(self.factor) + 1.0


class DecoderAttentionConfig(WidthScaledConfig):
    """A transformer with the attention of decoders."""

    num_query_groups: int | None = Field(default=None, gt=0)
    """Key/value heads of each attention (grouped-query attention); null: as many as query heads."""
    attention_head_size: int | None = Field(default=None, gt=0)
    """Width of one attention head; null: hidden_size / num_attention_heads."""
    attention_bias: Literal["none", "qkv", "all"] | None = None
    """Which layers of the attention have biases: none, those of queries, keys and values (Qwen2), these and the
    projection of the output; null: all or none, as `bias` says."""
    qk_norm: Literal["head", "projection"] | None = None
    """RMSNorm of queries and keys: over each head (Qwen3), or over all heads together (OLMo 2); null: none."""
    query_scale: int | None = Field(default=None, gt=0)
    """Products of queries and keys are divided by the square root of this; null: of the head size."""
    attention_softcap: float | None = Field(default=None, gt=0)
    """Attention scores x become cap tanh(x / cap) (Gemma 2); no fused kernel computes it; null: they stay."""
    sliding_window: int | None = Field(default=None, gt=0)
    """Tokens that a local layer sees, the token itself among them; null: all that came before."""
    global_every: int | None = Field(default=None, gt=1)
    """Of so many layers the last sees all that came before, the others `sliding_window`; null: all layers are local."""
    position_embedding: Literal["learned", "rope"] = "rope"
    """How positions enter: a learned table added to the tokens (GPT-2), or rotary (Llama)."""
    rotary_base: float = Field(default=10000.0, gt=0)
    """Base of the rotary frequencies."""
    rotary_percent: float = Field(default=1.0, gt=0, le=1)
    """Part of each head that is rotated, its beginning (GPT-NeoX, Phi)."""
    rotary_scaling: RotaryScaling | None = None
    """Slower angles for longer samples; null: the angles of `rotary_base`."""
    local_rotary_base: float | None = Field(default=None, gt=0)
    """Base of the rotary frequencies in local layers, never scaled (Gemma 3); null: as in the other layers."""

    @model_validator(mode="after")
    def _attention_is_consistent(self) -> DecoderAttentionConfig:
        if self.num_attention_heads % self.query_groups:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} is not a multiple of"
                f" num_query_groups {self.num_query_groups}"
            )
        self._check_window()
        if self.position_embedding == "rope":
            self._check_rotation()
            return self
        rotary = {"rotary_percent": 1.0, "rotary_scaling": None, "local_rotary_base": None}
        for key, plain in rotary.items():
            if getattr(self, key) != plain:
                raise ValueError(f"{key} is set, and position_embedding is learned; expected position_embedding=rope")
        return self

    def _check_window(self) -> None:
        if self.sliding_window is None:
            for key in ("global_every", "local_rotary_base"):
                if getattr(self, key) is not None:
                    raise ValueError(
                        f"{key} is {getattr(self, key):g}, and sliding_window is null; expected a sliding_window, or"
                        f" {key}=null"
                    )
        elif self.local_rotary_base is not None and self.global_every is None:
            raise ValueError("local_rotary_base is set, and all layers are local; set rotary_base, or global_every")

    def _check_rotation(self) -> None:
        if self.rotary_size % 2 or not self.rotary_size:
            size = f"attention_head_size is {self.head_size}"
            if self.attention_head_size is None:
                size = f"hidden_size / heads is {self.head_size}"
            if self.rotary_percent == 1.0:
                raise ValueError(f"rotary positions need an even head size; {size}")
            nearest = max(2, round(self.rotary_percent * self.head_size / 2) * 2) / self.head_size
            raise ValueError(
                f"rotary_percent {self.rotary_percent:g} rotates {self.rotary_size} elements of a head, expected an"
                f" even number above 0 ({size}); the nearest is {nearest:g}"
            )
        if self.rotary_percent < 1.0 and self.rotary_scaling is not None and self.rotary_scaling.kind == "yarn":
            raise ValueError(
                "rotary_scaling.kind is yarn, which scales whole queries and keys, and rotary_percent is"
                f" {self.rotary_percent:g}; expected rotary_percent=1, or kind linear or llama3"
            )

    @property
    def query_groups(self) -> int:
        """Key/value heads of each attention."""
        return self.num_query_groups or self.num_attention_heads

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.attention_head_size or super().head_size

    @property
    def has_own_head_size(self) -> bool:
        """See the base class."""
        return self.attention_head_size is not None

    @property
    def rotary_size(self) -> int:
        """Elements of a head that are rotated."""
        return int(self.head_size * self.rotary_percent)

    @property
    def has_qkv_bias(self) -> bool:
        """See the base class."""
        return self.bias if self.attention_bias is None else self.attention_bias != "none"

    @property
    def has_projection_bias(self) -> bool:
        """See the base class."""
        return self.bias if self.attention_bias is None else self.attention_bias == "all"

    def is_local(self, layer: int) -> bool:
        """Whether layer `layer` (from 0) sees `sliding_window` tokens."""
        if self.sliding_window is None:
            return False
        return self.global_every is None or (layer + 1) % self.global_every != 0

    def window(self, layer: int) -> int | None:
        """Tokens before itself that a token sees in layer `layer` (from 0); None: all."""
        return self.sliding_window - 1 if self.sliding_window is not None and self.is_local(layer) else None

    @property
    def rotations(self) -> tuple[tuple[float, RotaryScaling | None], ...]:
        """Base and scaling of the angles: of all layers, or of global and of local ones."""
        everywhere = (self.rotary_base, self.rotary_scaling)
        return (everywhere,) if self.local_rotary_base is None else (everywhere, (self.local_rotary_base, None))

    def rotation(self, layer: int) -> int:
        """Which of `rotations` layer `layer` (from 0) has."""
        return int(self.local_rotary_base is not None and self.is_local(layer))

    def softmax_scale(self, layer: int) -> float | None:
        """What products of queries and keys are multiplied by in layer `layer` (from 0); None: 1 / sqrt(head size)."""
        scaling = self.rotations[self.rotation(layer)][1]
        plain = None if self.query_scale is None else self.query_scale**-0.5
        if scaling is not None and scaling.query_and_key_factor != 1.0:
            plain = scaling.query_and_key_factor**2 * (self.query_scale or self.head_size) ** -0.5
        return self.width_scaled_softmax(plain)

    def attention_flops_per_token(self) -> float:
        """12 N D T for each layer, T being what a token sees: the sample in global layers, the window in local ones."""
        windows = [self.window(layer) for layer in range(self.num_layers)]
        seen = sum(self.seq_length if w is None else min(self.seq_length, w + 1) for w in windows)
        return 12 * self.num_attention_heads * self.head_size * seen

    def resolved(self) -> dict[str, Any]:
        """See the base class."""
        biases = "all" if self.has_projection_bias else "qkv" if self.has_qkv_bias else "none"
        return super().resolved() | {
            "num_query_groups": self.query_groups,
            "attention_head_size": self.head_size,
            "attention_bias": biases,
            "query_scale": self.query_scale or self.head_size,
        }
