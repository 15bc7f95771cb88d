"""Every path that a user can give, in a config or to a command, is read in one way: see `configs/paths.py`."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import typer
from pydantic import TypeAdapter, ValidationError

from configs.errors import ConfigError
from configs.load import find_recipe
from configs.paths import expanded, input_path, output_path
from configs.section import Section
from data_prep.reading.input_patterns import named_patterns

ROOT = Path(__file__).parents[2]
APPS = (
    *("data_prep.cli:app", "finetune.cli:app", "pretrain.main:app", "pretrain.main:evaluate_app"),
    *("pretrain.monitor.__main__:app", "pretrain.checkpoint.__main__:app"),
)
TYPES = re.compile(r"\b(InputPath|OutputPath|Paths|InputPattern)\b")
NAMED_AS_PATHS = re.compile(r"(^|_)(inputs?|outputs?|files?|dir|paths?|corpus|corpora|tokenizers?|texts|cache)$")
# Texts, and what only looks as if it named a file.
NO_PATHS = {"SourceEntry.path", "SourceConfig.damaged_files", "ExportConfig.tokenizer", "MonitorConfig.tensorboard_dir"}
NO_PATHS |= {"ImportConfig.tokenizer"}
TEXT_OPTIONS = {
    *("text_field", "algorithm", "engine", "group_by", "encoding", "search", "budget", "alpha", "roles", "dtype"),
    *("prompt", "stop", "question", "context", "settings", "overrides", "weights"),
    # Read by `find_recipe`, and words that a config reads.
    *("config", "recipe", "corpus", "source", "tokenizers", "checkpoint"),
}
# Words; and patterns, which `input_pattern` reads.
TEXT_OPTIONS |= {"id", "label", "id_field", "delimiter", "harness_task", "question", "context", "text", "choices"}


@cache
def sections() -> dict[str, type[Section]]:
    """Every config class of the project, by name."""
    for room in ("data_prep", "pretrain", "finetune"):
        for path in sorted((ROOT / room).rglob("*.py")):
            if re.search(r"^class \w+\((Section|Named|\w*Config|\w*Settings)\)", path.read_text("utf-8"), re.MULTILINE):
                importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))

    def below(cls: type[Section]) -> Iterator[type[Section]]:
        for each in cls.__subclasses__():
            yield each
            yield from below(each)

    rooms = ("data_prep", "pretrain", "finetune")
    return {each.__name__: each for each in below(Section) if each.__module__.split(".")[0] in rooms}


def fields() -> Iterator[tuple[str, type[Section], str, str]]:
    for name, cls in sections().items():
        for field, text in inspect.get_annotations(cls).items():
            if field in cls.model_fields:
                yield f"{name}.{field}", cls, field, str(text)


def params() -> Iterator[tuple[str, Any, Any, str, Any]]:
    """Name, command, parameter, annotated type and parser of every word that a command takes."""
    for app in APPS:
        module, _, name = app.partition(":")
        found = getattr(importlib.import_module(module), name)
        group = typer.main.get_command(found)
        for info in found.registered_commands:
            command = getattr(group, "commands", {info.name or info.callback.__name__: group})
            command = command[info.name or info.callback.__name__]
            hints = get_type_hints(info.callback, include_extras=True)
            for param in command.params:
                if param.name in hints:
                    annotation = hints[param.name]
                    parser = next((each.parser for each in annotation.__metadata__ if hasattr(each, "parser")), None)
                    yield f"{module} {command.name} {param.name}", command, param, str(annotation.__origin__), parser


def test_every_path_of_a_config_is_of_one_of_the_types() -> None:
    plain = [where for where, _, _, text in fields() if re.search(r"\bPath\b", text)]
    assert plain == [], "InputPath or OutputPath"
    untyped = [
        where
        for where, _, field, text in fields()
        if NAMED_AS_PATHS.search(field) and re.search(r"\bstr\b|\bNames\b|Literal", text) and where not in NO_PATHS
    ]
    assert untyped == [], "a path-typed field, or one of NO_PATHS"


@pytest.mark.parametrize("where", [where for where, _, _, text in fields() if TYPES.search(text)])
def test_a_path_of_a_config_is_expanded(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls, field = sections()[where.partition(".")[0]], where.partition(".")[2]
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("SCRATCH", "/scratch")
    adapter: TypeAdapter[Any] = TypeAdapter(get_type_hints(cls, include_extras=True)[field])
    text = cls.__annotations__[field]
    listed = "Path " not in f"{text} " or "list[" in text
    for given, meant in {"~/c": "/home/ada/c", "$SCRATCH/c": "/scratch/c", "${SCRATCH}/c": "/scratch/c"}.items():
        found = adapter.validate_python([given] if listed else given)
        assert str(found[0] if listed else found) == meant
    with pytest.raises(ValidationError, match=r"the variable \$SCRATHC is not set; did you mean \$SCRATCH\?"):
        adapter.validate_python(["$SCRATHC/c"] if listed else "$SCRATHC/c")
    if listed and "InputPath" not in text:
        assert adapter.validate_python(["s3://bucket/$SCRATCH/c"]) == ["s3://bucket//scratch/c"]
    else:
        with pytest.raises(ValidationError, match="is a URL"):
            adapter.validate_python([Path("s3://bucket/c")] if listed else Path("s3://bucket/c"))


def test_every_path_that_a_command_takes_is_read_by_the_parsers() -> None:
    paths = {field for _, _, field, text in fields() if TYPES.search(text)}
    found = list(params())
    assert len(found) > 100
    for where, _, param, annotation, parser in found:
        if "Path" in annotation:
            assert parser in (input_path, output_path), f"{where}: wants parser=input_path or output_path"
        elif "str" in annotation:
            assert param.name in paths | TEXT_OPTIONS, f"{where}: a path wants a parser; a text goes to TEXT_OPTIONS"


def outputs() -> list[str]:
    found = [where for where, _, param, _, parser in params() if param.name == "output" or parser is output_path]
    assert len(found) > 15
    return found


@pytest.mark.parametrize("where", outputs())
@pytest.mark.parametrize("given", ["s3://bucket/c", "$SCRATHC/c"])
def test_no_command_makes_a_directory_called_like_a_url_or_variable(
    where: str, given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, param = next((command, param) for each, command, param, _, _ in params() if each == where)
    monkeypatch.chdir(tmp_path)
    words = ["build-debian"] if command.name == "build" else ["task=classify"] if command.name == "run" else []
    for other in command.params:
        value = given if other is param else "1" if other.required else None
        if value is not None:
            words += [other.opts[0], value] if other.opts[0].startswith("-") else [value]
    with pytest.raises(ConfigError) as caught:
        command.main(words, standalone_mode=False)
    assert ("is a URL" if "://" in given else "$SCRATHC is not set") in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_what_is_there_as_it_is_written_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a$b.txt", "~nobody_of_this_name", "s3:"):
        (tmp_path / name).touch()
        assert expanded(name) == name
    assert expanded("https://host/x?$top=1") == "https://host/x?$top=1"
    assert expanded("a$b*") == "a$b*" and expanded("cost$") == "cost$"
    assert output_path("file:///x/y") == Path("/x/y")
    with pytest.raises(ConfigError, match=r"~nobody/x: there is no user 'nobody\w*'|~nobody"):
        input_path("~nobody_else/x")
    (tmp_path / "list").write_text("$HOME/x\n~/y\n")
    monkeypatch.setenv("HOME", "/home/ada")
    assert list(named_patterns(["@list"])) == ["/home/ada/x", "/home/ada/y"]
    (tmp_path / "r.yaml").touch()
    monkeypatch.setenv("HERE", str(tmp_path))
    assert find_recipe("$HERE/r.yaml", "data_prep") == tmp_path / "r.yaml"
