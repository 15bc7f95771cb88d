"""Keys that had another name: old files and old command lines go on working, and are told the new name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_origin

from pydantic import BaseModel

from configs.errors import ConfigError
from configs.explain import sections_of


def rename_keys(cls: type[BaseModel], raw: Mapping[str, Any], where: object) -> tuple[dict[str, Any], list[str]]:
    """`raw` with the names that the keys have now.

    Args:
        cls: the config class; its sections say in `renamed` which keys had another name.
        raw: values of a config, or of a part of one.
        where: the file or the command line, for errors.

    Returns:
        the values, and a sentence for each key that was given by its old name.

    Raises:
        ConfigError: a key is given by both of its names.
    """
    notes: list[str] = []
    return _renamed(cls, raw, where, "", notes), notes


def _renamed(cls: type[BaseModel], raw: Mapping[str, Any], where: object, prefix: str, notes: list[str]) -> Any:
    found: dict[str, Any] = {}
    old_names: Mapping[str, str] = getattr(cls, "renamed", {})
    for key, value in raw.items():
        name = old_names.get(key, key)
        if name in found or (name != key and name in raw):
            raise ConfigError(f"{prefix}{key} is the old name of {prefix}{name}, and both are given", where=str(where))
        if name != key:
            notes.append(f"{prefix}{key} is called {prefix}{name} now")
        found[name] = _inside(cls, name, value, where, f"{prefix}{name}.", notes)
    return found


def _inside(cls: type[BaseModel], key: str, value: Any, where: object, prefix: str, notes: list[str]) -> Any:
    field = cls.model_fields.get(key)
    for section in sections_of(field) if field is not None else []:
        if isinstance(value, Mapping) and field is not None and get_origin(field.annotation) is dict:
            # Its keys are names that somebody chose.
            value = {
                name: _renamed(section, v, where, f"{prefix}{name}.", notes) if isinstance(v, Mapping) else v
                for name, v in value.items()
            }
        elif isinstance(value, Mapping):
            value = _renamed(section, value, where, prefix, notes)
        elif isinstance(value, list):
            value = [_renamed(section, v, where, prefix, notes) if isinstance(v, Mapping) else v for v in value]
    return value
