"""What a prompt or a text to fine-tune on begins with is what pretraining saw before a document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_prep.tokenizer import Tokenizer
from finetune import generated_rows
from finetune.config import ExportConfig
from finetune.generate import Sampling, generate
from finetune.generated_rows import Row
from finetune.huggingface.export import export
from finetune.pretrained import read_pretrained
from finetune.text_codec import load_codec
from finetune.text_template import text_template
from tests.finetune.finetune_oracle import oracle_outputs
from tests.finetune.finetune_runs import llama, write_run
from tests.finetune.finetune_tokenizers import train_tokenizer

BEGIN, END = 3, 1
BORDERS = {"begin": {"begin_id": BEGIN, "end_id": END}, "end": {"begin_id": None, "end_id": END}, "older": None}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(tmp_path_factory.mktemp("tok"), bos_id=BEGIN, bos_piece="<s>")


def make(place: Path, tokenizer: Tokenizer, borders: str) -> tuple[Path, Path]:
    """A run and its export."""
    write_run(place / "run", llama(tokenizer), tokenizer, metadata={"document_borders": BORDERS[borders]})
    export(ExportConfig(model=place / "run", output=place / "out", sequences=1), reference=oracle_outputs)
    return place / "run", place / "out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("borders", "start", "before"), [("begin", BEGIN, BEGIN), ("end", END, None), ("older", END, None)]
)
def test_of_a_run_and_of_its_export(
    borders: str, start: int, before: int | None, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    for place in make(tmp_path, tokenizer, borders):
        pretrained = read_pretrained(place)
        assert (pretrained.codec.document_start, pretrained.codec.begin_of_text) == (start, before)
        template = text_template(pretrained, 32)
        assert (template.before, template.after) == (before, END)


def test_a_prompt_at_the_start_of_a_document(tokenizer: Tokenizer, tmp_path: Path) -> None:
    from pretrain.models.huggingface.transformers_model import load_causal

    _, out = make(tmp_path, tokenizer, "begin")
    asked = Sampling(max_new_tokens=1, greedy=True, at_document_start=True)
    import torch

    with torch.no_grad():
        first = load_causal(out)(torch.tensor([[BEGIN, *tokenizer.encode("The")]])).logits[0, -1].argmax()
    (answer,) = generate(out, ["The"], asked)
    assert answer.text == tokenizer.decode([*tokenizer.encode("The"), int(first)]).removeprefix("The")


@pytest.mark.slow
@pytest.mark.parametrize("borders", BORDERS)
def test_a_prompt_is_read_as_a_plain_call_gives_it(
    borders: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoTokenizer

    run, out = make(tmp_path, tokenizer, borders)
    plain = AutoTokenizer.from_pretrained(out)("The try")["input_ids"]
    assert (plain[0] == BEGIN) == (borders == "begin")
    seen: list[list[int]] = []

    def note(network: object, causal: object, rows: list[Row], *others: object) -> None:
        seen.extend(row.ids for row in rows)
        for row in rows:
            row.ended_by = "stop"

    monkeypatch.setattr(generated_rows, "write_batch", note)
    for place in (run, out):
        list(generate(place, ["The try"], Sampling()))
        list(generate(place, ["The try"], Sampling(at_document_start=True)))
    started = [BEGIN if borders == "begin" else END, *tokenizer.encode("The try")]
    assert seen == [plain, started] * 2


def test_an_export_from_before_they_say_it(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """It names a token that begins texts, which pretraining never saw."""
    _, out = make(tmp_path, tokenizer, "end")
    record = json.loads((out / "export.json").read_text())
    del record["document_start"]
    (out / "export.json").write_text(json.dumps(record))
    config = json.loads((out / "tokenizer_config.json").read_text())
    (out / "tokenizer_config.json").write_text(json.dumps(config | {"bos_token": "<s>"}))
    assert load_codec(out).document_start == END
    (out / "export.json").unlink()  # as another project's, it means what it says
    assert load_codec(out).document_start == BEGIN
