"""`num_layers: true` is a mistake, not one layer: pydantic without its reading of true and false as 1 and 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from pydantic_core import CoreSchema, core_schema

_EXPECTED = {"int": "a whole number", "float": "a number"}
_NO_SCHEMAS = ("metadata", "serialization", "config")


def refuse_bools(cls: type, schema: CoreSchema) -> CoreSchema:
    """The `schema` of the model `cls` with every number in it refusing true and false, in lists and unions too.

    Strict numbers would do so as well, but also refuse the text `3e-4`, which YAML does not take for a number.
    """
    return cast(CoreSchema, _walk(schema, cls))


def _walk(node: Any, cls: type) -> Any:
    if isinstance(node, list):
        return [_walk(part, cls) for part in node]
    if isinstance(node, tuple):
        # A member of a union with its name.
        return tuple(_walk(part, cls) for part in node)
    # A model inside this one has been walked through when its class was made.
    if not isinstance(node, dict) or (node.get("type") == "model" and node["cls"] is not cls):
        return node
    if node.get("type") in _EXPECTED:
        number = cast(CoreSchema, node)
        # The input schema: editors are told of the number alone.
        return core_schema.no_info_before_validator_function(
            _REFUSE[node["type"]], number, json_schema_input_schema=number
        )
    if node.get("type") == "function-before" and node["function"]["function"] in _REFUSE.values():
        return node
    return {key: value if key in _NO_SCHEMAS else _walk(value, cls) for key, value in node.items()}


def _refusing(kind: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        if isinstance(value, bool):
            raise ValueError(f"expected {_EXPECTED[kind]}, not true or false")
        return value

    return refuse


_REFUSE = {kind: _refusing(kind) for kind in _EXPECTED}
