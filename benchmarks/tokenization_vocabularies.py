"""The vocabularies that `benchmarks/tokenization_kinds.py` compares, learned from a sample, and the libraries for each.

A vocabulary lies in a directory of its own; what is there already is taken as it is.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from data_prep.tokenizer.byte_alphabet import from_byte_alphabet

LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 and tiktoken's cl100k cut text."""
END = "<|endoftext|>"
Encode = Callable[[Sequence[str]], object]
"""Texts -> ids of each, lists or arrays."""


@dataclass(frozen=True)
class Kind:
    """A vocabulary and what else reads it.

    Attributes:
        path: what `--tokenizer` takes.
        library: makes its own library's encoder.
        gigatoken: makes gigatoken's; None where it does not read this kind.
        megatron: options of Megatron-LM's tools that name the vocabulary.
        megatron_fast: whether Megatron-LM's fast tool reads it.
    """

    path: Path
    library: Callable[[], Encode]
    gigatoken: Callable[[], Encode] | None
    megatron: list[str]
    megatron_fast: bool = False


def vocabularies(directory: Path, sample: Path) -> dict[str, Kind]:
    """Every kind, by a name that says what it is.

    Args:
        directory: where they are kept.
        sample: JSON lines to learn from.
    """
    return {
        "byte-level BPE 32k": _byte_level(directory / "byte-level-32k", sample, 32_000, None),
        "byte-level BPE 128k": _byte_level(directory / "byte-level-128k", sample, 128_000, LLAMA_3),
        "tiktoken 32k": _tiktoken(directory / "tiktoken-32k", sample, 32_000),
        "SentencePiece BPE 32k": _sentencepiece(directory / "sentencepiece-bpe-32k", sample, "bpe"),
        "SentencePiece unigram 32k": _sentencepiece(directory / "sentencepiece-unigram-32k", sample, "unigram"),
    }


def _texts(path: Path) -> Iterable[str]:
    with path.open("rb") as stream:
        for line in stream:
            yield orjson.loads(line)["text"]


def _learn(sample: Path, vocab_size: int, pattern: str | None, special: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    pipeline = Tokenizer(models.BPE())
    if pattern is None:
        pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    else:
        pipeline.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(pattern), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
    pipeline.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    pipeline.train_from_iterator(_texts(sample), trainer)
    return pipeline


def _byte_level(directory: Path, sample: Path, vocab_size: int, pattern: str | None) -> Kind:
    path = directory / "tokenizer.json"
    if not path.exists():
        directory.mkdir(parents=True)
        _learn(sample, vocab_size, pattern, [END]).save(str(path))
        config = {"eos_token": END, "tokenizer_class": "PreTrainedTokenizerFast"}
        (directory / "tokenizer_config.json").write_bytes(orjson.dumps(config))

    def library() -> Encode:
        from tokenizers import Tokenizer

        pipeline = Tokenizer.from_file(str(path))
        return lambda texts: [found.ids for found in pipeline.encode_batch_fast(list(texts), add_special_tokens=False)]

    def gigatoken() -> Encode:
        from gigatoken import gigatoken_rs

        return _of_gigatoken(gigatoken_rs.load_hf_json(path.read_text()))

    megatron = ["--tokenizer-type", "HuggingFaceTokenizer", "--tokenizer-model", str(directory)]
    return Kind(directory, library, gigatoken, megatron, megatron_fast=True)


def _tiktoken(directory: Path, sample: Path, vocab_size: int) -> Kind:
    path = directory / "ranks.tiktoken"
    special = {END: vocab_size}
    if not path.exists():
        directory.mkdir(parents=True)
        learned = _learn(sample, vocab_size, LLAMA_3, []).get_vocab()
        merged = [data for data in map(from_byte_alphabet, sorted(learned, key=learned.__getitem__)) if len(data) > 1]
        ranks = {data: rank for rank, data in enumerate([*(bytes([byte]) for byte in range(256)), *merged])}
        path.write_bytes(b"".join(base64.b64encode(data) + b" %d\n" % rank for data, rank in ranks.items()))
        scheme = {"pattern": LLAMA_3, "special_tokens": special}
        path.with_suffix(".json").write_bytes(orjson.dumps(scheme))
        megatron = [
            {"rank": rank, "token_bytes": base64.b64encode(data).decode(), "token_str": data.decode("utf-8", "replace")}
            for data, rank in ranks.items()
        ]
        (directory / "megatron.json").write_bytes(orjson.dumps(megatron))

    def library() -> Encode:
        import tiktoken
        from tiktoken.load import load_tiktoken_bpe

        encoding = tiktoken.Encoding(
            "ranks", pat_str=LLAMA_3, mergeable_ranks=load_tiktoken_bpe(str(path)), special_tokens=special
        )
        return lambda texts: [encoding.encode_to_numpy(text, disallowed_special=()) for text in texts]

    def gigatoken() -> Encode:
        from gigatoken import gigatoken_rs

        return _of_gigatoken(gigatoken_rs.BPETokenizer.from_tiktoken(path, "gpt4", {}))

    megatron_options = ["--tokenizer-type", "TikTokenizer", "--tokenizer-model", str(directory / "megatron.json")]
    # Its special tokens come before the ranks.
    return Kind(path, library, gigatoken, [*megatron_options, "--vocab-size", str(vocab_size + 1000)])


def _sentencepiece(directory: Path, sample: Path, algorithm: str) -> Kind:
    path = directory / "tokenizer.model"
    if not path.exists():
        command = [sys.executable, "-m", "data_prep", "train-tokenizer", "--input", sample, "--output", directory]
        command += ["--algorithm", algorithm, "--vocab-size", 32_000, "sample_bytes=20000000"]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)

    def library() -> Encode:
        from sentencepiece import SentencePieceProcessor

        processor = SentencePieceProcessor(model_file=str(path))
        return lambda texts: processor.encode(list(texts), num_threads=1)

    def gigatoken() -> Encode:
        from gigatoken import Tokenizer

        return _of_gigatoken(Tokenizer.from_sentencepiece(path).backend)

    megatron = ["--tokenizer-type", "GPTSentencePieceTokenizer", "--tokenizer-model", str(path)]
    return Kind(directory, library, gigatoken if algorithm == "bpe" else None, megatron)


def _of_gigatoken(backend: Any) -> Encode:
    return lambda texts: backend.encode_batch(list(texts), parallel=False)
