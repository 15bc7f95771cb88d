"""The settings of `build`: those of its stages, with the paths between them filled in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from configs.paths import OutputPath
from configs.section import Section
from data_prep.cleaning.config import CleanConfig
from data_prep.config import SourceConfig, TokenizeConfig, TokenizerConfig


class BuildConfig(Section):
    """`build`: raw files -> cleaned documents -> tokenizer -> verified shards, in one directory, in one command."""

    output: OutputPath
    """The directory of everything: `clean/`, `tokenizer/`, `corpus/`, `statistics.json`, `statistics.png`."""
    clean: CleanConfig | None = None
    """Cleaning; null: the documents of `tokenize.input` are taken as they are."""
    train_tokenizer: TokenizerConfig | None = None
    """The tokenizer to learn from the documents; null: `tokenize.tokenizer` names one."""
    tokenize: TokenizeConfig
    """Tokenization."""
    ngram_order: int | None = Field(default=None, ge=1, le=5)
    """Order of the n-gram model whose loss is the floor for training; null: none is estimated."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema for editors: in a stage nothing is required, since `_fill_in` adds what leads to the others."""
        schema = handler(core_schema)
        properties = handler.resolve_ref_schema(schema)["properties"]
        for name in ("clean", "train_tokenizer", "tokenize"):
            choices = properties[name].get("anyOf", [properties[name]])
            found = copy.deepcopy(handler.resolve_ref_schema(next(choice for choice in choices if "$ref" in choice)))
            found.pop("required", None)
            said = {"description": properties[name]["description"]}
            properties[name] = {**found, **said} if len(choices) == 1 else {"anyOf": [found, {"type": "null"}], **said}
        return schema

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict) or not given.get("output"):
            return given
        root = Path(str(given["output"]))
        filled = dict(given)
        documents = []
        if isinstance(given.get("clean"), dict):
            filled["clean"] = {"output": str(root / "clean"), **given["clean"]}
            documents = [str(Path(str(filled["clean"]["output"])) / "documents")]
        tokenize = given.get("tokenize") or {}
        if not isinstance(tokenize, dict):
            return filled
        tokenize = {"output": str(root / "corpus"), **({"input": documents} if documents else {}), **tokenize}
        if isinstance(given.get("train_tokenizer"), dict):
            # Both have to read the same documents.
            read = {key: tokenize[key] for key in SourceConfig.model_fields if key in tokenize}
            filled["train_tokenizer"] = {"output": str(root / "tokenizer"), **read, **given["train_tokenizer"]}
            tokenize = {"tokenizer": filled["train_tokenizer"]["output"], **tokenize}
        filled["tokenize"] = tokenize
        return filled

    @model_validator(mode="after")
    def _own_everything(self) -> BuildConfig:
        # Where all of it lies within the input, a second start must not read what the first one wrote.
        for stage in (self.clean, self.train_tokenizer, self.tokenize):
            if stage is not None:
                stage._own = (self.output,)
        return self
