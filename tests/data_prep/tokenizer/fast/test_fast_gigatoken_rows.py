"""What stands in for awkward while gigatoken encodes is all that gigatoken asks it for, and gives the same arrays."""

import subprocess
import sys

import numpy as np
from data_prep_helpers import make_text

from data_prep.tokenizer.fast.gigatoken_rows import encoded_lists, encoded_rows
from tests.tokenizer_kinds import tiktoken_ranks

TEXTS = [*(make_text(number) for number in range(50)), "", "é中 \u0378", ""]
ALONE = """
import sys
from pathlib import Path
from gigatoken import gigatoken_rs
from data_prep.tokenizer.fast.gigatoken_rows import encoded_lists, encoded_rows
encoder = gigatoken_rs.BPETokenizer.from_tiktoken(Path(sys.argv[1]), "gpt4", {})
assert encoded_rows(encoder, ["one two", "", "three"])[1].tolist()[1] == 0 and encoded_lists(encoder, ["a"])
assert "awkward" not in sys.modules
encoder.encode_batch(["a"], parallel=False)
assert "awkward" in sys.modules, "gigatoken no longer needs awkward: gigatoken_rows has no use any more"
"""


def _encoder(path):
    from gigatoken import gigatoken_rs

    return gigatoken_rs.BPETokenizer.from_tiktoken(path, "gpt4", {})


def test_arrays_are_those_that_awkward_holds(tmp_path):
    import awkward

    encoder = _encoder(tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS))
    for texts in (TEXTS, [""], []):
        expected = encoder.encode_batch(texts, parallel=False)
        ids, lengths = encoded_rows(encoder, texts)
        assert sys.modules["awkward"] is awkward and ids.dtype == np.int32
        assert lengths.tolist() == awkward.num(expected).tolist()
        assert ids.tolist() == awkward.flatten(expected).tolist()
        assert encoded_lists(encoder, texts) == expected.tolist()


def test_awkward_is_never_imported_and_upstream_would(tmp_path):
    path = tiktoken_ranks(tmp_path / "v.tiktoken", TEXTS)
    done = subprocess.run([sys.executable, "-c", ALONE, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
