"""Bad input is left out and counted, or ends in one message; nothing hangs and nothing half-made is taken for whole."""

from __future__ import annotations

import os

import pytest

from data_prep.config import TokenizeConfig
from data_prep.sharding import tokenization
from data_prep.sharding.tokenization import tokenize
from tests.data_prep.damaged_input import CASES, Case, Workplace, problems


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    return Workplace(tmp_path_factory.mktemp("bad-inputs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [case for case in CASES if case.name != "full disk" or os.geteuid() == 0], ids=lambda case: case.name
)
def test_bad_input(workplace: Workplace, case: Case) -> None:
    seen = workplace.see(case)
    assert problems(case, seen) == [], seen.message


def test_halves_of_surrogate_pairs_are_counted_and_told(tmp_path, tokenizer_path):
    (tmp_path / "t.jsonl").write_bytes(b'{"text": "cut \\ud83d"}\n{"text": "b", "score": NaN}\n')
    result = tokenize(
        TokenizeConfig(input=[str(tmp_path / "t.jsonl")], tokenizer=tokenizer_path, output=tmp_path / "c", workers=1)
    )
    assert (result.manifest.documents, result.manifest.replaced_records, result.manifest.malformed_records) == (2, 1, 0)
    told = "\n".join(tokenization.summarize_tokenization(result, tmp_path / "c"))
    assert "half a surrogate pair by U+FFFD in 1 records" in told
