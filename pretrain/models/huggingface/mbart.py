"""MBart's arrangement of BART: norms before the blocks and at each stack's end (Liu et al. 2020, arXiv:2001.08210)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pretrain.models.huggingface.bart import Bart


class MBart(Bart):
    """See `Bart`."""

    model_type = "mbart"
    norm_placement: Literal["post", "pre"] = "pre"
    classes: Mapping[str, str] = {"conditional": "MBartForConditionalGeneration"}
