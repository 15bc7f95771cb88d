"""Small vocabularies of Hugging Face and tiktoken, learned on the spot."""

import base64
from collections.abc import Iterable
from pathlib import Path

import orjson

from data_prep.tokenizer.byte_alphabet import from_byte_alphabet

PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
SPECIAL = {"<|endoftext|>": 500, "<|mask|>": 503}


def huggingface_bpe(directory: Path, texts: Iterable[str], vocab_size: int = 420) -> Path:
    """A byte-level BPE directory as transformers writes it, with an end, a pad and two sentinels."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    pipeline = Tokenizer(models.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pipeline.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|end|>", "<|pad|>", "<extra_id_0>", "<extra_id_1>"],
        show_progress=False,
    )
    pipeline.train_from_iterator(texts, trainer)
    pipeline.post_processor = processors.TemplateProcessing(single="$A <|end|>", special_tokens=[("<|end|>", 0)])
    pipeline.enable_truncation(8)
    pipeline.enable_padding(length=8)
    directory.mkdir(parents=True, exist_ok=True)
    pipeline.save(str(directory / "tokenizer.json"))
    config = {"eos_token": {"content": "<|end|>", "special": True}, "pad_token": "<|pad|>", "bos_token": None}
    (directory / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    return directory


def huggingface_wordpiece(directory: Path, texts: Iterable[str]) -> Path:
    """A WordPiece file alone: lower-case words, spaces dropped."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    pipeline = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    pipeline.normalizer = normalizers.Lowercase()
    pipeline.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    pipeline.decoder = decoders.WordPiece()
    specials = ["[UNK]", "[PAD]", "[MASK]"]
    pipeline.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials, show_progress=False)
    )
    directory.mkdir(parents=True, exist_ok=True)
    pipeline.save(str(directory / "words.json"))
    return directory / "words.json"


def huggingface_unigram(directory: Path, texts: Iterable[str]) -> Path:
    """A unigram file with byte fallback and a space in front, as T5-like models have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    words = sorted({word for text in texts for word in text.split()})[:120]
    pieces = [("<unk>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", -9.0) for byte in range(256))]
    pieces += [("\u2581", -3.0), *((f"\u2581{word}", -5.0 - n / 100) for n, word in enumerate(words))]
    pieces += [(char, -8.0) for char in "abcdefghijklmnopqrstuvwxyz"]
    pipeline = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    pipeline.pre_tokenizer = pre_tokenizers.Metaspace()
    pipeline.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    pipeline.add_special_tokens(["<unk>", "</s>"])
    directory.mkdir(parents=True, exist_ok=True)
    pipeline.save(str(directory / "tokenizer.json"))
    return directory


def tiktoken_ranks(path: Path, texts: Iterable[str], size: int = 400) -> Path:
    """A `.tiktoken` file alone: 256 bytes and what byte-level BPE joins first."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    pipeline = Tokenizer(models.BPE())
    pipeline.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    pipeline.train_from_iterator(texts, trainer)
    vocab = sorted(pipeline.get_vocab().items(), key=lambda item: item[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [base64.b64encode(from_byte_alphabet(piece)) + b" %d\n" % rank for piece, rank in vocab]
    path.write_bytes(b"".join(lines))
    return path


def with_scheme(path: Path) -> Path:
    """Write the pattern and special tokens of a `.tiktoken` file beside it."""
    path.with_suffix(".json").write_bytes(orjson.dumps({"pattern": PATTERN, "special_tokens": SPECIAL}))
    return path
