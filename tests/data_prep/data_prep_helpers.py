import os
from collections.abc import Callable
from pathlib import Path

import orjson

from data_prep.config import SpecialTokens, TokenizerConfig
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.training import train_tokenizer

WORDS = (  # noqa: SIM905
    "the of corpus a token to shard and model in gradient is that weight for rank on loss with reads as step it are "
    "be this returns by value from or when which tensor layer Schülerin éclair 日本語 naïve x1 42 2026 0.5 config"
).split()


def make_text(number: int) -> str:
    """A small document, different for every number, with line breaks, indentation and other scripts."""
    words = [WORDS[(number * 7 + k * (1 + number % 5)) % len(WORDS)] for k in range(3 + number % 40)]
    return " ".join(words[:8]) + "\n\n    " + " ".join(words[8:]) + f"\n{number}\t!"


def write_jsonl(path: Path, texts: list[str], field: str = "text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(orjson.dumps({field: text, "id": n}) + b"\n" for n, text in enumerate(texts)))
    return path


def trained(text_file: Path, output: Path, algorithm: str, **settings: object) -> Tokenizer:
    vocab_size = {"bpe": 420, "unigram": 380, "char": 420, "word": 420}[algorithm]
    base = {"vocab_size": vocab_size, "special_tokens": SpecialTokens(mask="<mask>", sentinels=3)}
    config = TokenizerConfig(input=[str(text_file)], output=output, algorithm=algorithm, **(base | settings))
    return train_tokenizer(config)


def error_as_nobody(work: Callable[[], object]) -> str:
    """What `work` raises in a process that may not read everything, as root may."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        said = "nothing"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            work()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        return stream.read().decode()
