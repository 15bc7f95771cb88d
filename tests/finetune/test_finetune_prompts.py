"""Prompts from files and standard input; answers as lines of JSON."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from configs.errors import ConfigError, DataError
from finetune.prompts import Prompt, answer_line, check_answers_file, read_prompts
from finetune.sampling import Generated


def texts(path: Path) -> list[str]:
    return [prompt.text for prompt in read_prompts(path)]


def test_prompt_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo ▁\n")
    assert texts(tmp_path / "a.txt") == ["one", "two ▁"]
    (tmp_path / "a.txt").write_bytes("a\u2028b\fc\x85d\re\x1cf\r\n\r\nlast".encode())
    assert texts(tmp_path / "a.txt") == ["a\u2028b\fc\x85d\re\x1cf", "last"]
    (tmp_path / "a.jsonl").write_text('"x\u2028y"\r\n"z"')
    assert texts(tmp_path / "a.jsonl") == ["x\u2028y", "z"]
    (tmp_path / "a.jsonl").write_text('"x\\ny"\n{"prompt": "p"}\n{"text": "t"}\n')
    assert texts(tmp_path / "a.jsonl") == ["x\ny", "p", "t"]
    for content, named in (
        ('{"promt": "p"}', "only promt"),
        ("{", "line 1: is not valid"),
        ("", "no prompts"),
        ('"a"\n"x\\ud83d"', "line 2: holds half a character, U\\+D83D at character 2"),
    ):
        (tmp_path / "b.jsonl").write_text(content)
        with pytest.raises(DataError, match=named):
            read_prompts(tmp_path / "b.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path / "none.txt")


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def given(content: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))

    given("one ☃\n\ntwo\n".encode())
    assert read_prompts(Path("-")) == [Prompt("one ☃"), Prompt("two")]
    given(b'{"prompt": "a", "id": 7}\n"b"\n')
    assert read_prompts(Path("-"), jsonl=True) == [Prompt("a", 7), Prompt("b")]
    given(b"\n")
    with pytest.raises(DataError, match="standard input: holds no prompts"):
        read_prompts(Path("-"))


def test_an_answer_is_one_line_and_keeps_the_id() -> None:
    answer = Generated("a\nb", " ☃\n", 3, "stop", number=1, sample=2)
    line = answer_line(answer, Prompt("a\nb", {"set": 1}))
    assert "\n" not in line and "☃" in line
    told = {"prompt": "a\nb", "text": " ☃\n", "sample": 2, "tokens": 3, "ended_by": "stop"}
    assert json.loads(line) == {"id": {"set": 1}, **told}
    assert json.loads(answer_line(answer, Prompt("a\nb"))) == told


def test_files_for_answers(tmp_path: Path) -> None:
    check_answers_file(tmp_path / "new.jsonl", overwrite=False)
    (tmp_path / "old.jsonl").touch()
    check_answers_file(tmp_path / "old.jsonl", overwrite=True)
    with pytest.raises(ConfigError, match="exists already"):
        check_answers_file(tmp_path / "old.jsonl", overwrite=False)
    with pytest.raises(ConfigError, match=r"--output: is .*a\.txt"):
        check_answers_file(tmp_path / "a.txt", overwrite=False)
