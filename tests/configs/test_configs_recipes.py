from __future__ import annotations

from functools import cache
from pathlib import Path

import jsonschema
import pytest
import yaml

from configs.errors import ConfigError
from configs.load import RECIPES, find_recipe, load_config
from configs.reference import schema_texts
from configs.registry import ENTRIES
from pretrain.config import RunConfig
from pretrain.parallel.layout import Layout, resolve_layout

PRETRAIN = sorted(path.stem for path in (RECIPES / "pretrain").glob("*.yaml"))
ALL = sorted(path.relative_to(RECIPES) for path in RECIPES.glob("*/*.yaml"))

# Recipe -> ranks that it is meant for, and the layout that it has there.
LAYOUTS = {
    "gpt-tiny": {1: Layout(), 2: Layout(data=2)},
    "muon-tiny": {1: Layout(), 2: Layout(data=2)},
    "gpt-fim-tiny": {1: Layout(), 2: Layout(data=2)},
    "gpt-6m": {1: Layout(), 2: Layout(data=2)},
    "gpt-28m": {1: Layout(), 4: Layout(data=4)},
    "gpt-125m": {1: Layout(), 8: Layout(data=8), 32: Layout(data=32)},
    "gpt-1.3b": {8: Layout(data=8), 64: Layout(data=64)},
    "llama-7b": {8: Layout(data=8), 64: Layout(data=64), 512: Layout(data=512)},
    "llama-continue": {8: Layout(data=8), 64: Layout(data=64), 512: Layout(data=512)},
    "llama-70b-8gpu": {8: Layout(data=8)},
    "llama-70b-64gpu": {64: Layout(tensor=8, pipeline=4, data=2)},
    "llama-70b-512gpu": {512: Layout(tensor=8, pipeline=4, data=16)},
    "bert-tiny": {1: Layout(), 2: Layout(data=2)},
    "bert-base": {1: Layout(), 8: Layout(data=8), 32: Layout(data=32)},
    "bert-large": {1: Layout(), 8: Layout(data=8), 32: Layout(data=32)},
    "roberta-base": {1: Layout(), 8: Layout(data=8), 1024: Layout(data=1024)},
    "modern-encoder-tiny": {1: Layout(), 2: Layout(data=2)},
    "modern-encoder-base": {1: Layout(), 8: Layout(data=8), 64: Layout(data=64)},
    "ul2-tiny": {1: Layout(), 2: Layout(data=2)},
    "t5-tiny": {1: Layout(), 2: Layout(data=2)},
    "t5-base": {1: Layout(), 8: Layout(data=8), 16: Layout(data=16)},
    "t5-11b": {8: Layout(tensor=8), 256: Layout(tensor=8, data=32)},
    "bart-tiny": {1: Layout(), 2: Layout(data=2)},
    "bart-base": {1: Layout(), 8: Layout(data=8), 512: Layout(data=512)},
}
# Recipe without a model, which it has from the source that it starts from -> a recipe with one that it is meant for.
STARTS_FROM = {"llama-continue": "llama-7b"}
# Recipe -> the vocabulary it was published with, and the size that is published.
PUBLISHED = {
    "gpt-125m": (50257, 124.4e6),
    "gpt-1.3b": (50257, 1.3e9),
    "llama-7b": (32000, 6.74e9),
    "llama-70b-8gpu": (32000, 69e9),
    "llama-70b-64gpu": (32000, 69e9),
    "llama-70b-512gpu": (32000, 69e9),
    "bert-base": (30522, 110e6),
    "bert-large": (30522, 336e6),
    "roberta-base": (50265, 125e6),
    "modern-encoder-base": (50368, 149e6),
    "t5-base": (32128, 223e6),
    "t5-11b": (32128, 11.3e9),
    "bart-base": (50265, 139e6),
}


schemas_once = cache(schema_texts)


def recipe(name: str, *overrides: str) -> RunConfig:
    return load_config(RunConfig, layers(name), overrides)


def layers(name: str) -> list[Path]:
    return [find_recipe(each, "pretrain") for each in (STARTS_FROM.get(name), name) if each is not None]


def test_every_recipe_is_tested_here() -> None:
    assert set(PRETRAIN) == set(LAYOUTS)


@pytest.mark.parametrize(("name", "ranks"), [(name, ranks) for name, sizes in LAYOUTS.items() for ranks in sizes])
def test_a_recipe_has_its_layout_on_the_ranks_it_is_meant_for(name: str, ranks: int) -> None:
    assert resolve_layout(recipe(name), ranks) == LAYOUTS[name][ranks]


@pytest.mark.parametrize(("name", "ranks"), [("llama-70b-64gpu", 48), ("gpt-125m", 64), ("llama-7b", 1536)])
def test_ranks_that_a_recipe_does_not_fit_are_refused(name: str, ranks: int) -> None:
    with pytest.raises(ConfigError, match=f"layout on {ranks} ranks"):
        resolve_layout(recipe(name), ranks)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_published_size(name: str) -> None:
    vocab_size, published = PUBLISHED[name]
    assert recipe(name, f"model.vocab_size={vocab_size}").model.num_parameters() == pytest.approx(published, rel=0.02)


def test_the_70b_recipes_differ_in_their_layout_alone() -> None:
    plain = [recipe(f"llama-70b-{gpus}gpu").model_dump(exclude={"parallel"}) for gpus in (8, 64, 512)]
    assert plain[0] == plain[1] == plain[2]


@pytest.mark.parametrize("path", ALL, ids=str)
def test_every_recipe_is_valid_and_its_editor_schema_agrees(path: Path) -> None:
    room, problems = path.parts[0], []
    entries = [entry for entry in ENTRIES if entry.room == room]
    assert entries, f"no config class is registered for configs/{room}"
    schemas = schemas_once()
    for entry in entries:
        try:
            load_config(entry.config_class(), layers(path.stem) if path.stem in STARTS_FROM else RECIPES / path)
        except ConfigError as error:
            problems.append(str(error))
            continue
        raw = yaml.safe_load((RECIPES / path).read_text())
        jsonschema.validate(raw, yaml.safe_load(schemas[f"{entry.name}.json"]))
        return
    pytest.fail("\n".join(problems))
