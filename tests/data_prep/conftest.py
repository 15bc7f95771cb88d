from pathlib import Path

import pytest
from data_prep_helpers import make_text, trained, write_jsonl


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [make_text(number) for number in range(400)]


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("text") / "text.jsonl", texts)


@pytest.fixture(scope="session")
def tokenizer_path(tmp_path_factory: pytest.TempPathFactory, text_file: Path) -> Path:
    return trained(text_file, tmp_path_factory.mktemp("tokenizer") / "bpe", "bpe").model_path.parent
