"""The rules that keep the rooms apart: who may import whom, and how large a module may become."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "configs": {"configs"},
    "cluster": {"cluster", "configs"},
    "data_prep": {"data_prep", "configs"},
    "pretrain": {"pretrain", "data_prep", "configs"},
    "finetune": {"finetune", "pretrain", "data_prep", "configs"},
}
MAX_MODULE_LINES = 300
MAX_FUNCTION_LINES = 80


@cache
def parsed(path: Path) -> ast.Module:
    """The tree of a module, read once for all tests."""
    return ast.parse(path.read_text())


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def imports(path: Path, tree: ast.AST | None = None) -> Iterator[str]:
    """Dotted names that `path` imports anywhere, also inside functions; relative ones made absolute."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(tree or parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            yield ".".join([*base, *([node.module] if node.module else [])])


def needs(path: Path, names: set[str]) -> set[str]:
    """The modules among `names` that `path` imports, by whatever form; a package stands for its `__init__`."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & names
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute here"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & names
            if {f"{node.module}.{alias.name}" for alias in node.names} - names:
                found |= {node.module} & names
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, in order; empty if there is no ring."""
    ended: set[str] = set()
    road: list[str] = []

    def walk(name: str) -> list[str]:
        if name in road:
            return road[road.index(name) :]
        if name in ended:
            return []
        road.append(name)
        for other in sorted(graph[name]):
            if ring := walk(other):
                return ring
        ended.add(road.pop())
        return []

    return next((ring for name in sorted(graph) if (ring := walk(name))), [])


def breaches(paths: list[Path], forbidden: set[str]) -> list[str]:
    found = ((path.relative_to(ROOT), name) for path in paths for name in imports(path))
    return [f"{path} imports {name}" for path, name in found if name.split(".")[0] in forbidden]


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_follow_the_arrow(room: str) -> None:
    assert modules(room), f"no modules in {room}"
    others = {*MAY_IMPORT, "tests", "benchmarks"} - MAY_IMPORT[room]
    assert breaches(modules(room), others) == []


def test_data_preparation_needs_no_torch() -> None:
    assert breaches(modules("configs", "data_prep"), {"torch", "deepspeed", "megatron", "transformers"}) == []


def test_only_the_engine_knows_deepspeed() -> None:
    outside = [p for p in modules(*MAY_IMPORT) if not p.is_relative_to(ROOT / "pretrain/engine")]
    assert breaches(outside, {"deepspeed"}) == []


def test_only_engine_and_models_know_megatron() -> None:
    rooms = (ROOT / "pretrain/engine", ROOT / "pretrain/models")
    outside = [p for p in modules(*MAY_IMPORT) if not any(p.is_relative_to(room) for room in rooms)]
    assert breaches(outside, {"megatron"}) == []
    # Models are made of megatron's layers; groups and schedules stay behind the engine.
    internals = ("megatron.core.parallel_state", "megatron.core.pipeline_parallel", "megatron.core.distributed")
    found = [(path, name) for path in modules("pretrain/models") for name in imports(path)]
    assert [f"{path.name} imports {name}" for path, name in found if name.startswith(internals)] == []


def test_no_module_imports_itself_by_a_detour() -> None:
    # Imports inside functions count too: they hide a ring from Python, not from who reads.
    files = {".".join(p.relative_to(ROOT).with_suffix("").parts): p for p in modules(*MAY_IMPORT)}
    named = {name.removesuffix(".__init__"): path for name, path in files.items()}
    assert circle({name: needs(path, set(named)) for name, path in named.items()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == ["b", "c"]


def test_inside_data_preparation_the_text_flows_one_way() -> None:
    rooms = {
        "parallel": set(),
        "reading": set(),
        "corpus": set(),
        "tokenizer": {"reading"},
        "cleaning": {"parallel", "reading"},
        "sharding": {"parallel", "reading", "corpus", "tokenizer"},
        "corpus_tools": {"parallel", "reading", "corpus", "tokenizer"},
        "ngram": {"parallel", "corpus", "tokenizer"},
    }
    for room, lower in rooms.items():
        above = {*rooms, "commands", "building", "cli"} - lower - {room}
        found = {
            n.split(".")[1] for p in modules(f"data_prep/{room}") for n in imports(p) if n.startswith("data_prep.")
        }
        assert found & above == set(), f"data_prep/{room} looks up"


def test_imports_are_seen_wherever_they_stand() -> None:
    source = "def late():\n    import torch.nn\n    from ..config import X\n    from . import sibling\n"
    found = list(imports(ROOT / "pretrain/engine/example.py", ast.parse(source)))
    assert found == ["torch.nn", "pretrain.config", "pretrain.engine"]


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc"}
    assert [str(p.relative_to(ROOT)) for p in modules(*MAY_IMPORT, "benchmarks", "tests") if p.stem in drawers] == []


def test_no_two_classes_of_the_rooms_have_one_name() -> None:
    """Private ones aside: a name that is said in two rooms has to mean one thing."""
    found: dict[str, list[str]] = {}
    for path in modules(*MAY_IMPORT):
        for node in parsed(path).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_a_public_function_of_data_prep_has_a_name_of_its_own() -> None:
    """All but `register`, by which each module of commands adds its own: one thing under one name."""
    found: dict[str, list[str]] = {}
    for path in modules("data_prep"):
        for node in parsed(path).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.name != "register":
                found.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_modules_and_functions_fit_the_screen() -> None:
    long = []
    for path in modules(*MAY_IMPORT, "benchmarks", "tests"):
        source, name = path.read_text(), path.relative_to(ROOT)
        if (lines := source.count("\n")) > MAX_MODULE_LINES:
            long.append(f"{name}: {lines} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{name}: {node.name} has {lines} lines")
    assert long == []


def test_test_modules_have_names_of_their_own() -> None:
    # Folders of tests are no packages: two modules of one name would hide each other.
    names = [path.name for path in modules("tests") if path.name not in ("__init__.py", "conftest.py")]
    assert sorted(names) == sorted(set(names))
