"""Our tokenizer of any kind -> a `tokenizer.json` that gives the same ids, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.huggingface_kind import HuggingFaceTokenizer
from data_prep.tokenizer.tiktoken_kind import TiktokenTokenizer
from finetune.huggingface.encoder_text import EncoderText, prepare, put_around
from finetune.huggingface.tiktoken_conversion import convert_tiktoken
from pretrain.models.huggingface.config_fields import RoleIds

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"  # what SentencePiece writes for a space
OWN_FOLDER = "sentencepiece"
"""Folder of an exported model that holds our own tokenizer, as pretraining used it."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # the piece types of its model file
_UNIGRAM, _BPE, _CHAR = 1, 2, 4  # the model types
_NEVER = -1e9  # a log probability that loses against any other way to cut the text
_ROLES = {
    "bos_token": "beginning_of_document",
    "eos_token": "end_of_document",
    "unk_token": "unknown",
    "pad_token": "pad",
    "mask_token": "mask",
    "cls_token": "classification",
    "sep_token": "separator",
}

PROBES: tuple[str, ...] = (
    "The quick brown fox jumps over the lazy dog.",
    "def f(x: int = 0) -> str:\n\treturn f'{x!r}'  # comment\n\n\n",
    "  leading, trailing and   inner spaces  ",
    "\n\n  indented\r\n\ttab\u00a0no-break\u3000wide\u200bzero\u00adsoft",
    "naïve café, Straße, İstanbul, ﬁne, ½ ① ™, a\u0301 e\u0308",
    "emoji 😀👩\u200d👩\u200d👧\u200d👦🏳️\u200d🌈 and 🇫🇷",
    "日本語の文章 한국어 العربية עברית हिन्दी ไทย Ελληνικά русский ქართული ኣማርኛ ᚠᛇᚻ 𐍈 𝔘𝔫𝔦 𓀀",
    f"a literal {SPACE} and {SPACE}{SPACE}word",
    "0123456789 3.14159e-10 1,000,000 0xFF",
    "<s> </s> <unk> <pad> <0x41> <|endoftext|> [MASK]",
    "x" * 300,
    " ",
    "\n",
    "",
)


def role_ids(tokenizer: Tokenizer) -> RoleIds:
    """The ids that a Hugging Face model config names."""
    role = tokenizer.role
    return RoleIds(
        end_of_document=role("end_of_document"),
        begin_of_document=role("beginning_of_document"),
        pad=role("pad"),
        mask=role("mask"),
        classification=role("classification"),
        separator=role("separator"),
    )


def save(
    tokenizer: Tokenizer,
    directory: Path,
    seq_length: int,
    *,
    pad: int | None = None,
    prepend: int | None = None,
    append: int | None = None,
    encoder: EncoderText | None = None,
    model_inputs: list[str] | None = None,
) -> None:
    """Write what `transformers.AutoTokenizer.from_pretrained(directory)` needs.

    Args:
        tokenizer: ours.
        directory: an existing directory.
        seq_length: tokens that the model takes.
        pad: id to pad with; None: that of the role.
        prepend: id that is put before each text when special tokens are asked for, as by default; None: nothing.
        append: the same after each text.
        encoder: how a pretrained encoder reads text, which may then hold masks; None: for other models.
        model_inputs: the tensors that a call returns; None: those that transformers or `encoder` says.

    Raises:
        DataError: as `convert`.
    """
    pipeline, spelling = _pipeline(tokenizer)
    if prepend is not None or append is not None:
        before, after = ((number, spelling(number)) if number is not None else None for number in (prepend, append))
        put_around(pipeline, before, after)
    if encoder is not None:
        pipeline = prepare(pipeline, encoder, tokenizer.role("mask"), spelling)
    pipeline.save(str(directory / "tokenizer.json"))
    ids = {name: tokenizer.role(role) for name, role in _ROLES.items()}
    if pad is not None:
        ids["pad_token"] = pad
    config: dict[str, Any] = {name: spelling(number) for name, number in ids.items() if number is not None}
    if tokenizer.sentinels:
        config["extra_special_tokens"] = [spelling(number) for number in tokenizer.sentinels]
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": seq_length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        # Text that looks like a special token stays text, as it does for SentencePiece; but encoders are given masks.
        "split_special_tokens": encoder is None,
    }
    if encoder is not None:
        config["model_input_names"] = encoder.model_inputs
    if model_inputs is not None:
        config["model_input_names"] = model_inputs
    (directory / "tokenizer_config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def _pipeline(tokenizer: Tokenizer) -> tuple[tokenizers.Tokenizer, Callable[[int], str]]:
    """A pipeline that does what the tokenizer does, and how it spells an id."""
    import tokenizers

    if tokenizer.kind == "huggingface":
        own = tokenizers.Tokenizer.from_file(str(tokenizer.model_path))
        own.no_padding()
        own.no_truncation()
        return own, lambda number: str(own.id_to_token(number))
    if isinstance(tokenizer, TiktokenTokenizer):
        return convert_tiktoken(tokenizer), tokenizer.piece
    proto = _read_proto(tokenizer.model_path)
    return convert(tokenizer.model_path), lambda number: proto.pieces[number].piece


def check_same_ids(tokenizer: Tokenizer, directory: Path, texts: Iterable[str] = ()) -> int:
    """Compare what was saved with our tokenizer on `PROBES` and `texts`; returns how many texts were compared.

    Raises:
        DataError: the first text that they encode differently.
    """
    from transformers import AutoTokenizer

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    # What transformers takes for special tokens in text although told not to, and our tokenizer does not.
    leaks = tokenizer.leaks if isinstance(tokenizer, HuggingFaceTokenizer) else []
    otherwise = "sentencepiece-only" if tokenizer.kind == "sentencepiece" else "none"
    with quiet_transformers():
        theirs = AutoTokenizer.from_pretrained(directory, local_files_only=True)
        compared = 0
        for text in (*PROBES, *texts):
            if any(spelling in text for spelling in leaks):
                continue
            expected = list(tokenizer.encode(text))
            found = list(theirs.encode(text, add_special_tokens=False, split_special_tokens=True))
            if found != expected:
                at = next(
                    (n for n, (a, b) in enumerate(zip(expected, found)) if a != b), min(len(expected), len(found))
                )
                raise DataError(
                    f"the {tokenizer.algorithm} tokenizer has no exact counterpart in transformers: {_shorten(text)!r} "
                    f"is {expected[at : at + 4]} here and {found[at : at + 4]} there, from token {at}",
                    where=tokenizer.model_path,
                    expected=f"equal ids; tokenizer={otherwise} exports the model without transformers' tokenizer",
                )
            # An unknown word is a special token, which we decode to nothing.
            if theirs.decode(expected, skip_special_tokens=True) != tokenizer.decode(expected):
                raise DataError(
                    f"{_shorten(text)!r} is decoded differently by transformers",
                    where=tokenizer.model_path,
                    expected=f"equal text; tokenizer={otherwise} exports the model without transformers' tokenizer",
                )
            compared += 1
    return compared


def convert(model_file: Path) -> tokenizers.Tokenizer:
    """The `tokenizers` pipeline that does what a SentencePiece BPE, unigram or char model does.

    Control symbols (end of document, padding, ...) become special tokens, user-defined ones plain added tokens.
    A unigram model comes out equal except where two ways to cut a text score the same (runs of one character):
    SentencePiece adds up in single precision, tokenizers in double.

    Raises:
        DataError: not a SentencePiece model, or one whose algorithm or normalisation has no counterpart.
    """
    proto = _read_proto(model_file)
    kind = proto.trainer_spec.model_type
    if kind not in (_UNIGRAM, _BPE, _CHAR):
        raise DataError("is a word model, which has no counterpart in transformers", where=model_file,
                        expected="bpe, unigram or char; or tokenizer=sentencepiece-only")  # fmt: skip
    if proto.trainer_spec.treat_whitespace_as_suffix:
        raise DataError("treats whitespace as a suffix, which has no counterpart", where=model_file)
    import tokenizers
    from tokenizers import AddedToken

    # Where a literal U+2581 is text (our tokenizer writes its bytes), pieces must hold plain spaces.
    space = " " if proto.trainer_spec.byte_fallback and not proto.normalizer_spec.add_dummy_prefix else SPACE
    pipeline = tokenizers.Tokenizer(_unigram(proto, space) if kind == _UNIGRAM else _bpe(proto, space))
    pipeline.normalizer = _normalizer(proto.normalizer_spec, space)
    pipeline.decoder = _decoder(proto, space)
    symbols = {_CONTROL: True, _UNKNOWN: True, _USER_DEFINED: False}
    pipeline.add_tokens(
        [
            AddedToken(piece.piece, special=symbols[piece.type], normalized=False)
            for piece in proto.pieces
            if piece.type in symbols
        ]
    )
    return pipeline


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


def _read_proto(model_file: Path) -> Any:
    from google.protobuf.message import DecodeError
    from sentencepiece import sentencepiece_model_pb2

    proto: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined]
    try:
        proto.ParseFromString(model_file.read_bytes())
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", where=model_file) from None
    except DecodeError:
        raise DataError("is not a SentencePiece model", where=model_file) from None
    return proto


def _bpe(proto: Any, space: str) -> Any:
    from tokenizers.models import BPE

    pieces = [(piece.piece.replace(SPACE, space), piece.score, piece.type) for piece in proto.pieces]
    # SentencePiece joins the neighbours whose joint piece scores highest; a rank list says the same when every
    # way to cut a piece in two has the rank of the whole. Bytes and symbols never join.
    joinable = [(-score, number, text) for number, (text, score, kind) in enumerate(pieces) if kind == _NORMAL]
    known = {text for _, _, text in joinable}
    merges = [
        (text[:cut], text[cut:])
        for _, _, text in sorted(joinable)
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    return BPE(
        vocab={text: number for number, (text, _, _) in enumerate(pieces)},
        merges=merges,
        unk_token=proto.trainer_spec.unk_piece,
        fuse_unk=True,
        byte_fallback=proto.trainer_spec.byte_fallback,
    )


def _unigram(proto: Any, space: str) -> Any:
    from tokenizers.models import Unigram

    # Symbols and bytes are in the vocabulary for their ids only: text that spells one out must not match it.
    pieces = [
        (piece.piece.replace(SPACE, space), piece.score if piece.type in (_NORMAL, _USER_DEFINED) else _NEVER)
        for piece in proto.pieces
    ]
    unknown = next(number for number, piece in enumerate(proto.pieces) if piece.type == _UNKNOWN)
    return Unigram(pieces, unk_id=unknown, byte_fallback=proto.trainer_spec.byte_fallback)


def _normalizer(spec: Any, space: str) -> Any:
    from tokenizers import Regex, normalizers

    steps: list[Any] = []
    if spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(spec.precompiled_charsmap))
    if spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Replace(Regex(r"\A | \z"), "")]
    if spec.add_dummy_prefix:
        steps.append(normalizers.Prepend(SPACE))
    if space != " ":
        steps.append(normalizers.Replace(" ", space))
    return normalizers.Sequence(steps) if steps else None


def _decoder(proto: Any, space: str) -> Any:
    from tokenizers import decoders

    steps: list[Any] = [decoders.Replace(space, " ")] if space != " " else []
    if proto.trainer_spec.byte_fallback:
        steps.append(decoders.ByteFallback())
    steps.append(decoders.Fuse())
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(" ", 1, 0))
    return decoders.Sequence(steps)
