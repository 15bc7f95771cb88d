"""What can be read only once is neither gone on with nor appended, and both are said."""

import io
import os
from types import SimpleNamespace

import pytest

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.corpus import Corpus
from data_prep.reading.standard_input import kept_stream
from data_prep.sharding.tokenization import tokenize


@pytest.fixture
def start(tmp_path, tokenizer_path, monkeypatch):
    """Tokenizes what is written to standard input, as a process of its own would."""

    def start(*inputs, **settings):
        given = SimpleNamespace(buffer=io.BytesIO(b'{"text": "one"}\n'), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", given)
        kept_stream.cache_clear()
        names = [str(name) for name in inputs] or ["-"]
        return tokenize(
            TokenizeConfig(input=names, tokenizer=tokenizer_path, output=tmp_path / "c", workers=1, **settings)
        )

    return start


def test_another_start_says_that_standard_input_cannot_be_gone_on_with(start, tmp_path):
    start()
    with pytest.raises(DataError) as error:
        start()
    assert error.value.problem == (
        "was begun with other input or settings:"
        "\n- it had standard input or a pipe, which cannot be gone on with in another start"
    )
    assert "--overwrite" in error.value.expected
    assert start(overwrite=True).made == 1 and Corpus.open(tmp_path / "c").num_documents == 1


def test_what_can_be_read_only_once_is_not_appended(start, tmp_path):
    start()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "list").write_text("-\n")
    for named, shown in (("-", "standard input"), (tmp_path / "pipe", "pipe"), (f"@{tmp_path}/list", "standard input")):
        with pytest.raises(DataError, match=f"{shown}: cannot be appended, as it can be read only once"):
            start(named, append=True)
    (tmp_path / "more.jsonl").write_text('{"text": "two"}\n')
    start(tmp_path / "more.jsonl", append=True)
    assert Corpus.open(tmp_path / "c").num_documents == 2
