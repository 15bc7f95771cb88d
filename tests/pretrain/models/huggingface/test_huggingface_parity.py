"""Checkpoints of tensor 2 x pipeline 2 against transformers, one of each kind; the whole table is a command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pretrain.models.huggingface.parity_table import LIMIT, parity
from tests.pretrain.tiny_run import make_corpus


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert", "modernbert", "gemma3_text"])
def test_a_checkpoint_of_four_stages_computes_the_same_in_transformers_and_back(name: str, tmp_path: Path) -> None:
    found = parity(name, tmp_path / "run", make_corpus(tmp_path / "corpus", sentences="bert" in name))
    assert found.largest_logit > 1 and max(found.there, found.back) < LIMIT
    assert found.outputs == (("logits", "pair") if name == "bert" else ("logits",))


@pytest.mark.slow
def test_a_checkpoint_of_an_encoder_decoder_computes_the_same_in_transformers_and_back(tmp_path: Path) -> None:
    found = parity("t5-1.1", tmp_path / "run", make_corpus(tmp_path / "corpus"))
    assert found.largest_logit > 1 and max(found.there, found.back) < LIMIT
