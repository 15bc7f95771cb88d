"""The roles that encoders need, `classification` and `separator`, beside those that were there before."""

import orjson
import pytest
from data_prep_helpers import make_text, trained

from configs.errors import DataError
from data_prep.config import SpecialTokens
from data_prep.tokenizer import ROLES, fingerprint_of, load_tokenizer
from tests.tokenizer_kinds import huggingface_bpe

FIRST = {"end_of_document": 2, "beginning_of_document": 1, "unknown": 0, "pad": 3, "mask": 4}
BERT = SpecialTokens(
    unknown="[UNK]", beginning_of_document=None, end_of_document="</s>", pad="[PAD]", mask="[MASK]",
    classification="[CLS]", separator="[SEP]", sentinels=2,
)  # fmt: skip


def test_fingerprints_of_before_encoders_stay():
    # Made by the version that had five roles.
    assert fingerprint_of(b"a model", FIRST, [5, 6, 7]) == "fffbe679a8520a97438f66d1f46acb9a"
    without = FIRST | {"mask": None, "pad": None, "classification": None, "separator": None}
    extra = {"pattern": "x", "special_tokens": {"</s>": 2}}
    assert fingerprint_of(b"a model", without, [], extra) == "cb2880eb9e877878dd623c0c78df8f0d"


def test_each_role_counts_in_the_fingerprint():
    later = ROLES[len(FIRST) :]
    roles = [FIRST, *(FIRST | {role: token} for role in later for token in (5, 6))]
    assert len({fingerprint_of(b"a model", each, []) for each in roles}) == 1 + 2 * len(later) == 17


def test_a_directory_of_before_loads(tmp_path, text_file):
    tokenizer = trained(text_file, tmp_path / "t", "bpe")
    path = tmp_path / "t" / "tokenizer.json"
    content = orjson.loads(path.read_bytes())
    for role in ROLES[len(FIRST) :]:
        assert content["roles"].pop(role) is None
    path.write_bytes(orjson.dumps(content))
    again = load_tokenizer(tmp_path / "t")
    assert again.fingerprint == tokenizer.fingerprint == content["fingerprint"]
    assert again.role("classification") is None and again.role("mask") == 4
    path.write_bytes(orjson.dumps(content | {"roles": content["roles"] | {"separator": 5}}))
    with pytest.raises(DataError, match="do not belong together"):
        load_tokenizer(tmp_path / "t")


def test_a_vocabulary_for_an_encoder(tmp_path, text_file):
    tokenizer = trained(text_file, tmp_path / "t", "bpe", special_tokens=BERT)
    assert [tokenizer.piece(token) for token in range(8)] == [
        "[UNK]", "</s>", "[PAD]", "[MASK]", "[CLS]", "[SEP]", "<extra_id_0>", "<extra_id_1>",
    ]  # fmt: skip
    assert [tokenizer.role(role) for role in ROLES[:7]] == [1, None, 0, 2, 3, 4, 5]
    assert tokenizer.sentinels == [6, 7] and all(tokenizer.is_special(token) for token in range(8))
    assert not set(range(8)) & set(tokenizer.encode("[CLS] the [MASK][SEP] model</s>"))
    assert load_tokenizer(tokenizer.model_path).role("classification") == 4  # a bare model names them by spelling


def test_roles_that_share_a_token(tmp_path, text_file):
    roberta = SpecialTokens(mask="<mask>", classification="<s>", separator="</s>", sentinels=1)
    tokenizer = trained(text_file, tmp_path / "t", "unigram", special_tokens=roberta)
    assert [tokenizer.role(role) for role in ROLES[:7]] == [2, 1, 0, 3, 4, 1, 2]
    assert tokenizer.piece(4) == "<mask>" and tokenizer.sentinels == [5] and not tokenizer.is_special(6)
    with pytest.raises(ValueError, match="'<pad>' is used for two roles"):
        SpecialTokens(classification="<pad>")
    with pytest.raises(ValueError, match="'</s>' is used for two roles"):
        SpecialTokens(classification="</s>")


def test_the_files_of_a_bytelevel_encoder_name_its_roles(tmp_path):
    """RoBERTa's `<s>` and `</s>`, by its tokenizer_config.json or by what it puts around text."""
    texts = [make_text(number) for number in range(50)]
    directory = huggingface_bpe(tmp_path, texts)
    assert load_tokenizer(directory).role("classification") is None
    pipeline = orjson.loads((directory / "tokenizer.json").read_bytes())
    around = {"type": "RobertaProcessing", "sep": ["<|end|>", 0], "cls": ["<|pad|>", 1], "trim_offsets": True}
    pipeline["post_processor"] = around | {"add_prefix_space": False}
    (directory / "tokenizer.json").write_bytes(orjson.dumps(pipeline))
    tokenizer = load_tokenizer(directory)
    assert (tokenizer.role("classification"), tokenizer.role("separator")) == (1, 0)
    config = {"cls_token": {"content": "<extra_id_0>"}, "sep_token": "<extra_id_1>"}
    (directory / "tokenizer_config.json").write_bytes(orjson.dumps(config))
    tokenizer = load_tokenizer(directory)
    assert (tokenizer.role("classification"), tokenizer.role("separator")) == (2, 3)


def test_a_vocabulary_for_encoder_decoders(tmp_path, text_file):
    modes = {"regular_denoising": "[NLU]", "sequential_denoising": "[S2S]", "extreme_denoising": "[NLG]"}
    special = SpecialTokens(**modes, sentinels=100)
    tokenizer = trained(text_file, tmp_path / "t", "unigram", vocab_size=430, special_tokens=special)
    assert [tokenizer.role(role) for role in modes] == [4, 5, 6] and tokenizer.sentinels == [*range(7, 107)]
    assert tokenizer.piece(5) == "[S2S]" and tokenizer.piece(106) == "<extra_id_99>"
    assert all(tokenizer.is_special(token) for token in range(107))
    assert not set(range(4, 107)) & set(tokenizer.encode("[S2S] the <extra_id_0> model"))
    assert load_tokenizer(tokenizer.model_path).role("extreme_denoising") == 6  # a bare model names them by spelling


def test_the_file_of_a_t5_vocabulary_names_its_sentinels_in_order(tmp_path):
    """T5's: the first sentinel has the highest id; none begins a document, and the pad comes first."""
    tokenizers = pytest.importorskip("tokenizers")
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"\u2581{word}", -3.0) for word in ("the", "text"))]
    pieces += [(f"<extra_id_{number}>", 0.0) for number in reversed(range(100))]
    pipeline = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=2))
    pipeline.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    pipeline.add_special_tokens(["<pad>", "</s>", "<unk>", *(f"<extra_id_{number}>" for number in range(100))])
    pipeline.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.sentinels == list(range(104, 4, -1)) and tokenizer.piece(104) == "<extra_id_0>"
    assert [tokenizer.role(role) for role in ("pad", "end_of_document", "unknown")] == [0, 1, 2]
