"""Every dependency is a package that a room imports, or one that is there for a reason that is written here."""

from __future__ import annotations

import ast
import re
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("configs", "cluster", "data_prep", "pretrain", "finetune")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# Packages that no room imports, with what needs them.
REASONS = {
    "accelerate": "lm-eval's models of transformers import it",
    "datasets": "what `save_to_disk` wrote is read as Arrow files; a user makes such files, and reads ours, with it",
    "ftfy": "datatrove's formatter of broken text imports it; data_prep/cleaning/run.py looks for it",
    "gcsfs": "fsspec imports it for gs://",
    "lxml-html-clean": "trafilatura imports it",
    "openmpi": "the program mpirun and the library that mpi4py loads",
    "pythainlp": "datatrove's splitter of Thai imports it; data_prep/cleaning/language_codes.py looks for it",
    "python-crfsuite": "pythainlp's splitter of sentences imports it",
    "ray": "datatrove's executor imports it; data_prep/cleaning/executors.py looks for it",
    "regex": "datatrove's filters import it",
    "s3fs": "fsspec imports it for s3://",
    "sudachidict-core": "sudachipy's dictionary",
    "sudachipy": "spaCy's splitter of Japanese imports it; data_prep/cleaning/language_codes.py looks for it",
    "tensorboard": "torch.utils.tensorboard imports it, and pretrain/monitor/tensorboard_server.py starts it",
    "trafilatura": "datatrove's extractor imports it; data_prep/cleaning/run.py looks for it",
}
WITH_CODE = (
    "finetune",
    "attribution",
    "fast",
    "tokenizers",
    "sentences",
    "remote",
    "clean",
    "chinese",
    "japanese",
    "thai",
    "ray",
    "wandb",
    "harness",
    "attribution",
)


def plain(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def distributions(requirements: list[str]) -> set[str]:
    """Names of the distributions in requirement lines, those of this project left out."""
    found = (re.match(r"[\w.-]+", line) for line in requirements)
    return {plain(match[0]) for match in found if match} - {plain(PROJECT["name"])}


@cache
def imported_by_rooms() -> set[str]:
    """Distributions whose modules the rooms import, by whatever form; needs them to be installed."""
    modules: set[str] = set()
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.split(".")[0])
    providers = packages_distributions()
    # A module of an optional package that is not installed here has its distribution's name.
    return {plain(name) for module in modules for name in providers.get(module, [module])}


@pytest.mark.parametrize("extra", ["", *WITH_CODE])
def test_every_dependency_is_used(extra: str) -> None:
    named = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    assert distributions(named) - imported_by_rooms() - set(REASONS) == set()


def test_every_reason_is_needed() -> None:
    lists = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in WITH_CODE)]
    named = {name for requirements in lists for name in distributions(requirements)}
    assert set(REASONS) - named == set(), "no dependency any more"
    assert set(REASONS) & imported_by_rooms() == set(), "a room imports it now"


def test_only_the_developers_extra_is_left_out() -> None:
    assert set(PROJECT["optional-dependencies"]) == {*WITH_CODE, "dev"}
