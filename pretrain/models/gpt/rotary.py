"""The rotary angles of decoders: partial, slower for longer samples, of local layers and of global ones.

Shape letters: R kinds of layers, S sequence, F frequencies, D elements of a head that are rotated (2 F).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from megatron.core.models.common.embeddings.rotary_pos_embedding import RotaryEmbedding

from pretrain.models.gpt.attention_config import RotaryScaling
from pretrain.models.gpt.config import GPTConfig


class RotaryAngles(RotaryEmbedding):
    """Stands in for megatron-core's embedding of rotary positions: gives the angles of each kind of layer.

    Args:
        model: base, scaling and size of the rotation.
    """

    def __init__(self, model: GPTConfig) -> None:
        super().__init__(model.head_size, model.rotary_percent, use_cpu_initialization=True)
        self._frequencies_RF = torch.stack(
            [frequencies(model.rotary_size, base, scaling) for base, scaling in model.rotations]
        )
        self._known: torch.Tensor | None = None

    def forward(self, max_seq_len: int, *unused: Any, **also_unused: Any) -> torch.Tensor:
        """The angles of `max_seq_len` positions, [R, S, 1, 1, D]."""
        if self._known is None or self._known.shape[1] != max_seq_len:
            # Named as megatron names it: on the CPU our stand-in answers (engine/cpu_bridge.py).
            frequencies_RF = self._frequencies_RF.to(device=torch.cuda.current_device())
            places_S = torch.arange(max_seq_len, device=frequencies_RF.device, dtype=torch.float32)
            angles_RSF = places_S[None, :, None] * frequencies_RF[:, None, :]
            self._known = torch.cat([angles_RSF, angles_RSF], -1)[:, :, None, None, :]
        return self._known


def frequencies(size: int, base: float, scaling: RotaryScaling | None) -> torch.Tensor:
    """Radians per position of each pair of elements, fp32 [F].

    Args:
        size: elements of a head that are rotated.
        base: the slowest pair turns about once in 2 pi times this many positions.
        scaling: how much slower; None: not.
    """
    plain_F = 1.0 / base ** (torch.arange(0, size, 2, dtype=torch.float32) / size)
    if scaling is None:
        return plain_F
    if scaling.kind == "linear":
        return plain_F / scaling.factor
    kept_F = _kept_by_llama3(plain_F, scaling) if scaling.kind == "llama3" else _kept_by_yarn(size, base, scaling)
    return plain_F / scaling.factor * (1 - kept_F) + plain_F * kept_F


def _kept_by_llama3(plain_F: torch.Tensor, scaling: RotaryScaling) -> torch.Tensor:
    """1 where a pair turns so often that it keeps its frequency, 0 where it is scaled, in between linear in its turns.

    Dubey et al. 2024 (arXiv:2407.21783), by the models' published configs.
    """
    assert scaling.original_seq_length is not None
    turns_F = scaling.original_seq_length * plain_F / (2 * math.pi)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    return ((turns_F - low) / (high - low)).clamp(0, 1)


def _kept_by_yarn(size: int, base: float, scaling: RotaryScaling) -> torch.Tensor:
    """As above, but linear in the pair's number, between whole numbers (Peng et al. 2023, arXiv:2309.00071, 3.2)."""
    assert scaling.original_seq_length is not None
    length = scaling.original_seq_length

    def pair(turns: float) -> float:
        """Number of the pair that turns so often over the original length."""
        return size * math.log(length / (turns * 2 * math.pi)) / (2 * math.log(base))

    low, high = max(math.floor(pair(scaling.beta_fast)), 0), min(math.ceil(pair(scaling.beta_slow)), size - 1)
    numbers_F = torch.arange(size // 2, dtype=torch.float32)
    return 1 - ((numbers_F - low) / max(high - low, 0.001)).clamp(0, 1)
