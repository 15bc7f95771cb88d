"""The plan of a corpus: every unit of work with the shard that it becomes, fixed before the first is begun.

It lies in the corpus from the first moment on, so that whoever continues (after a kill, on another machine) does the
same work, and so that a changed input or recipe is noticed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson
import xxhash

from configs.errors import DataError
from data_prep.config import TokenizeConfig
from data_prep.reading.files import FileState
from data_prep.reading.inputs import InputFile
from data_prep.reading.standard_input import is_kept_stream
from data_prep.reading.work_unit import WorkUnit
from data_prep.storage.publishing import staged_file

PLAN = "plan.json"
PLAN_VERSION = 1
MAX_DIFFERENCES = 8
# What a setting that is not here says has no influence on any byte of a shard.
RECIPE_FIELDS = (
    "text_field",
    "text_separator",
    "text_documents",
    "encoding",
    "delimiter",
    "quoting",
    "header",
    "dataset_split",
    "malformed",
    "damaged_files",
    "max_document_bytes",
    "work_unit_bytes",
    "append_end_of_document",
    "prepend_beginning_of_document",
    "sentences",
    "metadata_fields",
)


@dataclass(frozen=True)
class ShardingPlan:
    """What will be made of what.

    Attributes:
        recipe: the settings that decide about the result, by name.
        tokenizer: fingerprint of the tokenizer.
        engine: who makes the ids.
        files: the input files, in order.
        left_out: input files that cannot be used, and why.
        shards: the units of each shard, in order.
    """

    recipe: dict[str, Any]
    tokenizer: str
    engine: str
    files: list[InputFile]
    left_out: list[str]
    shards: list[tuple[WorkUnit, ...]]

    def write(self, directory: Path) -> None:
        """Write `plan.json`, atomically.

        Raises:
            MachineError: if it cannot be written.
        """
        content = {
            "version": PLAN_VERSION,
            "recipe": self.recipe,
            "tokenizer": self.tokenizer,
            "engine": self.engine,
            "files": [[file.path, file.kind, file.state.size_bytes, file.state.version] for file in self.files],
            "left_out": self.left_out,
            "shards": [[list(asdict(unit).values()) for unit in units] for units in self.shards],
        }
        with staged_file(directory / PLAN) as temporary:
            temporary.write_bytes(orjson.dumps(content) + b"\n")

    @classmethod
    def read(cls, directory: Path) -> ShardingPlan:
        """The plan that lies in `directory`.

        Raises:
            DataError: if it is damaged, or of another version.
        """
        path = directory / PLAN
        try:
            raw = orjson.loads(path.read_bytes())
            if raw["version"] != PLAN_VERSION:
                raise DataError(
                    f"is a plan of version {raw['version']}", where=path, expected=f"version {PLAN_VERSION}"
                )
            return cls(
                recipe=dict(raw["recipe"]),
                tokenizer=str(raw["tokenizer"]),
                engine=str(raw["engine"]),
                files=[InputFile(p, kind, FileState(size, version)) for p, kind, size, version in raw["files"]],
                left_out=list(raw["left_out"]),
                shards=[tuple(WorkUnit(*unit) for unit in units) for units in raw["shards"]],
            )
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=path) from None
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"is not a plan: {error}", where=path, expected="the plan of a corpus") from None


def plan_identity(directory: Path) -> str | None:
    """Hash of the plan that lies in `directory`, so that what was made under another one is told; None: there is none.

    Raises:
        OSError: if it cannot be read.
    """
    path = directory / PLAN
    try:
        state = path.stat()
        return _identity(path, state.st_ino, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=4)
def _identity(path: Path, *state: int) -> str:
    return xxhash.xxh3_128_hexdigest(path.read_bytes())


def recipe_of(config: TokenizeConfig) -> dict[str, Any]:
    """The settings that decide about the result."""
    return config.model_dump(mode="json", include=set(RECIPE_FIELDS))


def plan_differences(plan: ShardingPlan, config: TokenizeConfig, fingerprint: str, files: list[InputFile]) -> list[str]:
    """How what is asked for now differs from what `plan` was made for; nothing: it does not."""
    found: list[str] = []
    recipe = recipe_of(config)
    for key in RECIPE_FIELDS:
        # A plan from before a setting was there was made with what it is by default.
        before, now = plan.recipe.get(key, TokenizeConfig.model_fields[key].default), recipe[key]
        if before != now:
            found.append(f"{key} was {before!r}, is {now!r}")
    if plan.tokenizer != fingerprint:
        found.append(f"the tokenizer had the fingerprint {plan.tokenizer}, has {fingerprint}")
    before_by_path = {file.path: file.state for file in plan.files}
    now_by_path = {file.path: file.state for file in files}
    kinds = {file.path: file.kind for file in files}
    found += [
        f"{file.path} was read as {file.kind}, is read as {kinds[file.path]}"
        for file in plan.files
        if kinds.get(file.path, file.kind) != file.kind
    ]
    for path, state in before_by_path.items():
        if path not in now_by_path and is_kept_stream(path):
            found.append("it had standard input or a pipe, which cannot be gone on with in another start")
        elif path not in now_by_path:
            found.append(f"{path} is not among the input any more")
        elif now_by_path[path].size_bytes != state.size_bytes:
            found.append(f"{path} had {state.size_bytes:,} bytes, has {now_by_path[path].size_bytes:,}")
        elif now_by_path[path].version != state.version:
            found.append(f"{path} was written again since")
    had_stream = any(map(is_kept_stream, before_by_path))
    new = [path for path in now_by_path if path not in before_by_path]
    found += [f"{path} is new" for path in new if not (had_stream and is_kept_stream(path))]
    if not found and [file.path for file in files] != [file.path for file in plan.files]:
        found.append("the input comes in another order")
    return found


def refuse_changes(
    plan: ShardingPlan,
    config: TokenizeConfig,
    fingerprint: str,
    files: list[InputFile],
    where: Path,
    expected: str = "the same as before, another output, or --overwrite to begin anew",
) -> None:
    """Refuse to continue work that was begun on something else.

    Raises:
        DataError: names the differences.
    """
    found = plan_differences(plan, config, fingerprint, files)
    if not found:
        return
    shown = [f"\n- {line}" for line in found[:MAX_DIFFERENCES]]
    if len(found) > MAX_DIFFERENCES:
        shown.append(f"\n- and {len(found) - MAX_DIFFERENCES:,} more")
    raise DataError(
        "was begun with other input or settings:" + "".join(shown),
        where=where,
        expected=expected,
    )
