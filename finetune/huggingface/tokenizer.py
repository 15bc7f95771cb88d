"""Our tokenizer of any kind -> a `tokenizer.json` that gives the same ids, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.tokenizer import Tokenizer
from data_prep.tokenizer.tiktoken_kind import TiktokenTokenizer
from finetune.huggingface.plain_call import PlainCall, prepare
from finetune.huggingface.tiktoken_conversion import convert_tiktoken
from pretrain.models.huggingface.config_fields import RoleIds

if TYPE_CHECKING:
    import tokenizers

SPACE = "\u2581"  # what SentencePiece writes for a space
CONFIG_FILE = "tokenizer_config.json"
OWN_FOLDER = "sentencepiece"
"""Folder of an exported model that holds our own tokenizer, as pretraining used it."""
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4  # the piece types of its model file
_UNIGRAM, _BPE, _CHAR = 1, 2, 4  # the model types
_NEVER = -1e9  # a log probability that loses against any other way to cut the text
_TEMPLATE_SWITCHES = ("add_bos_token", "add_eos_token")  # transformers 5 makes the template anew where these stand
_REBUILT = frozenset({"qwen2"})
"""Values of model_type for which transformers 5.24 builds the architecture's own tokenizer, with its pre-tokenizer,
from the vocabulary, whatever class is named."""
_READ_WHOLE = {"trust_remote_code": True}
"""What has such a class read `tokenizer.json` as it is. There is no code beside it, and nothing is run."""
_TOKENS = {
    "bos_token": "begin_of_document",
    "eos_token": "end_of_document",
    "pad_token": "pad",
    "mask_token": "mask",
    "cls_token": "classification",
    "sep_token": "separator",
}


def role_ids(tokenizer: Tokenizer, begin_of_document: int | None = None) -> RoleIds:
    """The ids that a Hugging Face model config names.

    Args:
        tokenizer: ours.
        begin_of_document: id that begins a text. Not that of the role: a tokenizer has one for models that want it,
            and harnesses begin with it whether the model ever saw it or not.
    """
    role = tokenizer.role
    return RoleIds(
        end_of_document=role("end_of_document"),
        begin_of_document=begin_of_document,
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
    ids: RoleIds | None = None,
    call: PlainCall | None = None,
    pad: int | None = None,
    model_type: str | None = None,
) -> None:
    """Write what `transformers.AutoTokenizer.from_pretrained(directory)` needs, of version 4 and 5.

    Args:
        tokenizer: ours.
        directory: an existing directory.
        seq_length: tokens that the model takes.
        ids: of its special tokens; None: those of the roles, and none that begins a text.
        call: what a call without arguments gives; None: the text alone.
        pad: id to pad with; None: that of the role.
        model_type: of the model beside it, as `config.json` says it; None: there is none.

    Raises:
        DataError: as `convert`.
    """
    pipeline, spelling = _pipeline(tokenizer)
    call = call or PlainCall()
    prepare(pipeline, call, spelling).save(str(directory / "tokenizer.json"))
    ids = ids or role_ids(tokenizer)
    named = {key: getattr(ids, role) for key, role in _TOKENS.items()} | {"unk_token": tokenizer.role("unknown")}
    if pad is not None:
        named["pad_token"] = pad
    config: dict[str, Any] = {key: spelling(number) for key, number in named.items() if number is not None}
    if tokenizer.sentinels:
        config["additional_special_tokens"] = [spelling(number) for number in tokenizer.sentinels]
    if call.before is None and call.after is None:
        # Converters take a SentencePiece model for one that wants a token in front where nothing is said.
        config |= dict.fromkeys(_TEMPLATE_SWITCHES, False)
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": seq_length,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": call.keeps_spellings,
        "model_input_names": call.model_inputs,
    }
    if model_type in _REBUILT:
        config |= _READ_WHOLE
    (directory / CONFIG_FILE).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


def make_readable_by_version_4(directory: Path, *, has_own_template: bool, model_type: str | None = None) -> None:
    """Name the class and the lists of a tokenizer that transformers 5 saved as version 4 does; 5 reads them, too.

    Args:
        directory: where it was saved.
        has_own_template: whether what is put around a text was changed: a class of an architecture would undo that.
        model_type: as in `save`.
    """
    path = directory / CONFIG_FILE
    config = json.loads(path.read_text("utf-8"))
    if model_type in _REBUILT:
        config |= _READ_WHOLE
    if has_own_template or model_type in _REBUILT or config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if has_own_template:
        config = {key: value for key, value in config.items() if key not in _TEMPLATE_SWITCHES}
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")


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
