"""What is written says by the names of transformers 4 what it says by those of 5; `fresh_environments` tries both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from data_prep.tokenizer import Tokenizer
from finetune.config import ExportConfig
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.export import export
from finetune.huggingface.model_card import TRANSFORMERS_VERSIONS
from finetune.huggingface.plain_call import PlainCall
from finetune.huggingface.tokenizer import make_readable_by_version_4
from finetune.networks import head_network, save_network, save_tokenizer
from finetune.pretrained import read_pretrained
from finetune.text_template import text_template
from pretrain.models.encoder.modern_config import ModernEncoderConfig
from pretrain.models.huggingface.config_fields import older_spellings
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import LINES, train_tokenizer
from tests.tokenizer_kinds import huggingface_bpe

TEXT = "The try </s> statement <|endoftext|>"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    symbols = ["<|mask|>", "<|cls|>", "<|sep|>"]
    return train_tokenizer(tmp_path_factory.mktemp("tok"), bos_id=3, bos_piece="<s>", control_symbols=symbols)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    place = tmp_path_factory.mktemp("made")
    write_run(place / "run", llama(tokenizer, rotary_base=5000.0), tokenizer)
    export(ExportConfig(model=place / "run", output=place / "export", sequences=1), reference=oracle_outputs)
    return place


def fields_of(directory: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((directory / name).read_text())
    return found


def check_names(directory: Path) -> None:
    config, tokenizer = fields_of(directory, "config.json"), fields_of(directory, "tokenizer_config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 5000.0
    assert config["torch_dtype"] == config["dtype"] == "float32"
    assert tokenizer["tokenizer_class"] == "PreTrainedTokenizerFast"  # version 4 has no TokenizersBackend
    # Version 4 returns token types where this is not said: Llama's generate refuses them, GPT-2 adds them up.
    assert tokenizer["model_input_names"] == ["input_ids", "attention_mask"]
    assert not isinstance(tokenizer.get("extra_special_tokens"), list)  # version 4 wants a mapping there


def test_an_export(made: Path) -> None:
    check_names(made / "export")
    assert fields_of(made / "export", "export.json")["reads_in_transformers"] == TRANSFORMERS_VERSIONS
    assert f"| reads in | transformers {TRANSFORMERS_VERSIONS} |" in (made / "export" / "README.md").read_text()


@pytest.mark.parametrize("pretrained_from", ["run", "export"])
def test_a_classifier(pretrained_from: str, made: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    pretrained = read_pretrained(made / pretrained_from)
    network = head_network("AutoModelForSequenceClassification", pretrained, {"num_labels": 2, "pad_token_id": 2})
    save_network(tmp_path, network, network.state_dict())
    save_tokenizer(tmp_path, pretrained, text_template(pretrained, 32))
    check_names(tmp_path)
    end = tokenizer.role("end_of_document")
    for _ in range(2):  # as it was saved, and saved by transformers once more
        theirs = AutoTokenizer.from_pretrained(tmp_path)
        # Text is text, as it was in fine-tuning; what closes it is put there by the call.
        assert theirs(TEXT)["input_ids"] == [*tokenizer.encode(TEXT), end]
        assert theirs.bos_token_id == pretrained.hf_config["bos_token_id"] == end
        theirs.save_pretrained(tmp_path)


def test_a_classifier_from_another_projects_directory_puts_around_what_it_was_tuned_on(
    made: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    """Its token before each text stays; its template, which transformers 5 makes anew from its config, does not."""
    from transformers import AutoTokenizer

    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.json", "model.safetensors"):
        (other / name).write_bytes((made / "export" / name).read_bytes())
    hf_tokenizer.save(tokenizer, other, 64, ids=hf_tokenizer.role_ids(tokenizer, 3), call=PlainCall(before=3))
    fields = fields_of(other, "tokenizer_config.json") | {"add_bos_token": True}
    (other / "tokenizer_config.json").write_text(json.dumps(fields))
    assert AutoTokenizer.from_pretrained(other)("The")["input_ids"] == [3, *tokenizer.encode("The")]
    pretrained = read_pretrained(other)
    (tmp_path / "saved").mkdir()
    save_tokenizer(tmp_path / "saved", pretrained, text_template(pretrained, 32))
    theirs = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert theirs("The")["input_ids"] == [3, *tokenizer.encode("The"), tokenizer.role("end_of_document")]
    assert "add_bos_token" not in fields_of(tmp_path / "saved", "tokenizer_config.json")


def test_sentinels_that_transformers_5_saved(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = huggingface_bpe(tmp_path / "foreign", LINES) / "tokenizer.json"
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(file), extra_special_tokens=["<extra_id_0>"])
    theirs.save_pretrained(tmp_path)
    make_readable_by_version_4(tmp_path, has_own_template=False)
    fields = fields_of(tmp_path, "tokenizer_config.json")
    assert fields["additional_special_tokens"] == ["<extra_id_0>"] and "extra_special_tokens" not in fields
    assert AutoTokenizer.from_pretrained(tmp_path)("a<extra_id_0>")["input_ids"][-2:] == [2, 0]


def test_qwen2_where_its_own_class_is_taken_whatever_class_is_named(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """As transformers 5.24 does; the class would cut text as Qwen's own vocabulary wants it."""
    from transformers import Qwen2Tokenizer

    write_run(tmp_path / "run", llama(tokenizer, attention_bias="qkv"), tokenizer)
    export(ExportConfig(model=tmp_path / "run", output=tmp_path / "export", sequences=1), reference=oracle_outputs)
    pretrained = read_pretrained(tmp_path / "export")
    (tmp_path / "tuned").mkdir()
    save_tokenizer(tmp_path / "tuned", pretrained, text_template(pretrained, 32))
    for directory, after in ((tmp_path / "export", []), (tmp_path / "tuned", [tokenizer.role("end_of_document")])):
        theirs = Qwen2Tokenizer.from_pretrained(directory)
        for text in ("The quick brown fox", "def f(x):\n    return x", "  two  spaces"):
            assert theirs(text)["input_ids"] == [*tokenizer.encode(text), *after]


def test_a_cap_of_attention_scores() -> None:
    """Before 5.24, gemma2 leaves it out in the attention that it takes where nothing is said."""
    from transformers import AutoConfig

    capped = {"model_type": "gemma2", "attn_logit_softcapping": 5.0}
    assert older_spellings(capped) == {"_attn_implementation": "eager"}
    assert older_spellings(capped | {"attn_logit_softcapping": None}) == {}
    assert older_spellings(capped | {"model_type": "gemma3_text"}) == {}
    assert AutoConfig.for_model(**capped, **older_spellings(capped))._attn_implementation == "eager"


def test_other_rotary_positions() -> None:
    yarn = {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0}
    assert older_spellings({"rope_parameters": yarn}) == {
        "rope_theta": 1e6,
        "rope_scaling": {"rope_type": "yarn", "factor": 4.0},
    }
    assert older_spellings({"rope_parameters": None, "dtype": "bfloat16"}) == {"torch_dtype": "bfloat16"}
    from pretrain.models.huggingface.family import to_config

    model = ModernEncoderConfig(num_layers=7, hidden_size=8, num_attention_heads=1, seq_length=16, vocab_size=9)
    found = older_spellings(to_config(model))
    assert found == {"global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
