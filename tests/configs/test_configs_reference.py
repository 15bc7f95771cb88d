from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import jsonschema
import pytest

from configs.durations import Duration
from configs.explain import field_keys
from configs.load import load_config, to_yaml
from configs.reference import REFERENCE, SCHEMAS, reference_text, schema_texts, type_text
from configs.registry import ENTRIES
from configs.section import Section

ROOT = Path(__file__).parents[2]
SMALLEST: dict[str, Any] = {
    "output": "runs/x",
    "model": {"num_layers": 2, "hidden_size": 64, "num_attention_heads": 4, "seq_length": 64},
    "data": {"train": "corpus"},
    "training": {"duration": "10 steps", "micro_batch_size": 1, "global_batch_size": 2},
    "optimizer": {"lr": 1e-3},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "configs", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)


def test_the_committed_reference_is_up_to_date() -> None:
    assert REFERENCE.read_text() == reference_text(), "run: python -m configs reference"


def test_every_seed_has_a_bound() -> None:
    """Libraries refuse a seed of more bits than they have with a traceback of their own."""

    def seeds(node: Any) -> list[Any]:
        if isinstance(node, list):
            return [found for item in node for found in seeds(item)]
        if not isinstance(node, dict):
            return []
        own = [node["seed"]] if isinstance(node.get("seed"), dict) else []
        own = [kind for seed in own for kind in seed.get("anyOf", [seed]) if kind.get("type") != "null"]
        return own + [found for item in node.values() for found in seeds(item)]

    declared = [seed for text in schema_texts().values() for seed in seeds(json.loads(text))]
    assert len(declared) > 5 and all(0 < seed.get("exclusiveMaximum", 0) <= 2**63 for seed in declared)


def test_the_committed_schemas_are_up_to_date() -> None:
    assert {path.name: path.read_text() for path in SCHEMAS.glob("*.json")} == schema_texts(), (
        "python -m configs schema"
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_key_has_a_line_and_every_line_says_what_it_is(entry: Any) -> None:
    text = reference_text()
    section = text.split(f"\n## {entry.name}\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    keys = {row.split("`")[1].replace("[]", "").replace(".NAME", "") for row in rows}
    cls = entry.config_class()
    headings = {line.lstrip("# ").replace(".NAME", "") for line in section.splitlines() if line.startswith("###")}
    headings = {heading for heading in headings if ".name = " not in heading}
    assert set(field_keys(cls)) == keys | headings
    for row in rows:
        assert len(row.rstrip("| ").split(" | ")[-1]) > 8, f"{row} has no description"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "integer"),
        (float | None, "number or null"),
        (Literal["a", "b"], "one of `a`, `b`"),
        (list[Path], "list of path"),
        (tuple[float, float], "list of 2: number, number"),
        (dict[str, list[int]], "mapping of text to list of integer"),
        (Duration, "duration"),
    ],
)
def test_types_in_words(annotation: Any, words: str) -> None:
    assert type_text(annotation) == words


def test_a_type_without_words_is_noticed() -> None:
    with pytest.raises(TypeError, match="complex"):
        type_text(complex)


def pretrain_schema() -> Any:
    return json.loads((SCHEMAS / "pretrain.json").read_text())


@pytest.mark.parametrize("train", ["corpus", ["a", "b"], [{"corpus": "a", "weight": 2.0}], {"corpus": "a"}])
def test_the_schema_accepts_every_form_that_loads(train: Any) -> None:
    from pretrain.config import RunConfig

    raw = SMALLEST | {"data": {"train": train}}
    RunConfig.model_validate(raw)
    jsonschema.validate(raw, pretrain_schema())


@pytest.mark.parametrize(
    "change",
    [
        {"optimizer": {"lr": "fast"}},
        {"optimizer": {"lr": 1e-3, "learning_rate": 1}},
        {"training": SMALLEST["training"] | {"precision": "fp8"}},
        {"unknown": 1},
        {"data": {"train": [{"weight": 1.0}]}},
    ],
)
def test_the_schema_refuses_what_does_not_load(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(SMALLEST | change, pretrain_schema())


def test_a_printed_config_fits_the_schema_and_loads_again(tmp_path: Path) -> None:
    import yaml

    from pretrain.config import RunConfig

    config = RunConfig.model_validate(SMALLEST)
    (tmp_path / "printed.yaml").write_text(to_yaml(config))
    assert load_config(RunConfig, tmp_path / "printed.yaml") == config
    jsonschema.validate(yaml.safe_load(to_yaml(config)), pretrain_schema())


@pytest.mark.slow
def test_check_tells_a_good_config_from_a_bad_one() -> None:
    good = run("check", "llama-70b-64gpu", "--ranks", "64", "optimizer.lr=2e-4")
    assert good.returncode == 0, good.stderr
    assert "layout on 64 ranks: tensor 8 x pipeline 4 x data 2" in good.stdout
    for arguments, expected in (
        (("check", "gpt-tiny", "optimizer.lrr=1"), "did you mean optimizer.lr?"),
        (("check", "gpt-tinny"), "did you mean: gpt-tiny"),
        (("check", "gpt-tiny", "--ranks", "3"), "layout on 3 ranks"),
        (("check", "gpt-tiny", "--for", "pretrian"), "did you mean: pretrain"),
    ):
        bad = run(*arguments)
        assert bad.returncode == 2, arguments
        assert expected in bad.stderr and "Traceback" not in bad.stderr


def test_the_config_room_imports_no_other() -> None:
    """Before a config class is asked for."""
    code = (
        "import sys, configs.__main__, configs.reference\n"
        "rooms = {'data_prep', 'pretrain', 'finetune', 'cluster', 'torch'}\n"
        "print(sorted(rooms & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr


def test_every_section_says_what_it_is() -> None:
    def sections(cls: type[Section]) -> set[type]:
        from configs.explain import sections_of

        below = {s for field in cls.model_fields.values() for s in sections_of(field)}
        return {cls, *(inner for section in below for inner in sections(section))}  # type: ignore[arg-type]

    for entry in ENTRIES:
        for section in sections(entry.config_class()):
            assert section.__doc__, section
