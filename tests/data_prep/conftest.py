import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_prep_helpers import make_text, trained, write_jsonl

from data_prep.cli import main


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [make_text(number) for number in range(400)]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", texts)


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    return trained(text_file, tmp_path_factory.mktemp("tokenizer") / "bpe", "bpe").model_path.parent


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command of data_prep in this process: its status, and what it printed on both streams."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["data_prep", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        try:
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def closed_directory() -> Iterator[Path]:
    """A directory with `a.jsonl` that anybody may read, in it `closed` with `b.jsonl` that nobody may."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    write_jsonl(root / "a.jsonl", ["one"])
    write_jsonl(root / "closed" / "b.jsonl", ["two"])
    (root / "closed").chmod(0)
    yield root
    (root / "closed").chmod(0o700)
    shutil.rmtree(root)
