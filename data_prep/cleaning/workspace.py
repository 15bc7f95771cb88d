"""The output directory: unfinished under another name, begun again where it stopped, named when it is whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from glob import glob
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson

from configs.errors import DataError, MachineError, UserError
from configs.renamed import rename_keys
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.plan import CleaningPlan
from data_prep.storage.durable import flush_to_disk, writing
from data_prep.storage.locks import locked
from data_prep.storage.publishing import publish_directory, write_whole

RECIPE = "recipe.json"
REPORT = "report.json"
LOGS = "logs"
SLURM_JOB = "slurm_job.json"
DOCUMENTS = "documents"
_LOCK = "lock"
# `ledgers` is what `counts` was called.
_OURS = frozenset({DOCUMENTS, "counts", "ledgers", LOGS, "progress", "work", RECIPE, REPORT, "report.html", _LOCK})
_TRANSIENT = (f".{RECIPE}.", ".report.", ".nfs")
_SHOWN = 8


class Workspace:
    """Where a cleaning works and what it leaves.

    Args:
        config: the recipe.
        plan: its input; both have to be the same when a work is continued.
    """

    def __init__(self, config: CleanConfig, plan: CleaningPlan) -> None:
        self.output = config.output.absolute()
        self.partial = config.partial
        self.overwrite, self.is_local = config.overwrite, config.executor == "local"
        self.inputs = [*_local_files(name for name, _, _ in plan.inputs)]
        if "decontaminate" in config.stages:
            matches = (glob(pattern) for pattern in config.decontaminate.files)  # noqa: PTH207 (may be absolute)
            self.inputs += _local_files(name for names in matches for name in names)
        for stage in config.stages:
            self.inputs += getattr(getattr(config, stage), "against", [])
        self.identity: dict[str, Any] = {
            "datatrove": version("datatrove"),
            "settings": config.result_settings(),
            "inputs": {name: [size, changed] for name, size, changed in plan.inputs},
        }

    def finished(self) -> bool:
        """Whether the output is there and made of the same recipe and input.

        Raises:
            DataError: if the output is there and of another recipe or input, or no longer whole, or something else,
                or if an input lies in it.
        """
        self._check_inputs()
        if not self.output.exists():
            return False
        is_ours = (self.output / REPORT).is_file() and (self.output / RECIPE).is_file()
        if not is_ours:
            if self.output.is_dir() and not any(self.output.iterdir()):
                return False
            raise DataError(
                f"exists and holds other things (no {REPORT})",
                where=self.output,
                expected="the path of a new directory",
            )
        if self.overwrite:
            foreign = _foreign(self.output)
            if foreign:
                raise DataError(
                    f"would be replaced, and holds other things ({foreign[0]})",
                    where=self.output,
                    expected="another output, or what is not the command's moved elsewhere",
                )
            return False
        self._check(self.output, "was made")
        self._check_documents()
        return True

    @contextmanager
    def working(self) -> Iterator[Path]:
        """The directory of the unfinished work, new or continued; nobody else may have it.

        Raises:
            DataError: if the unfinished work is of another recipe or input, or other things are in its directory.
            MachineError: if the directory cannot be written or another process works in it.
        """
        with writing(self.partial):
            self.partial.mkdir(parents=True, exist_ok=True)
            self._check_partial()
            # Worker processes, which may outlive a killed command and write on, hold it with the command.
            with locked(self.partial / _LOCK, inherited=True) as mine:
                if not mine:
                    raise MachineError("another process works in it", where=self.partial)
                if not self.overwrite and self._has_begun():
                    self._check(self.partial, "was begun")
                else:
                    self._clear()
                try:
                    write_whole(self.partial / RECIPE, orjson.dumps(self.identity, option=orjson.OPT_INDENT_2))
                    yield self.partial
                except (UserError, OSError) as error:
                    if self._is_no_use(error):
                        shutil.rmtree(self.partial, ignore_errors=True)
                    raise

    def _check_inputs(self) -> None:
        own = [folder.resolve() for folder in (self.output, self.partial)]
        for path in self.inputs:
            folder = next((f for f in own if any(p.is_relative_to(f) for p in (path.absolute(), path.resolve()))), None)
            if folder is not None:
                raise DataError(
                    f"is input, and lies in {folder}, which the command replaces",
                    where=path,
                    expected="another output, or the input elsewhere",
                )

    def _check_partial(self) -> None:
        names = {path.name for path in self.partial.iterdir()}
        foreign = _foreign(self.partial)
        if foreign or (names and not names & {_LOCK, RECIPE}):
            raise DataError(
                f"is where the unfinished output would lie, and holds other things ({(foreign or sorted(names))[0]})",
                where=self.partial,
                expected="another output, or that directory moved or removed",
            )

    def _check_documents(self) -> None:
        try:
            made = orjson.loads((self.output / REPORT).read_bytes())["output"]
            expected = (made["shards"], made["stored_bytes"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise DataError(
                "is damaged", where=self.output / REPORT, expected="--overwrite to begin anew, or another output"
            ) from None
        sizes = [path.stat().st_size for path in (self.output / DOCUMENTS).glob("*.jsonl*")]
        found = (len(sizes), sum(sizes))
        if found != expected:
            raise DataError(
                "was finished, but its documents are not what they were: "
                f"{found[0]:,} shards of {found[1]:,} bytes for {expected[0]:,} of {expected[1]:,}",
                where=self.output / DOCUMENTS,
                expected="the shards as they were made, --overwrite to make them again, or another output",
            )

    def _has_begun(self) -> bool:
        """Whether there is work to continue: a task that is complete, or a job that may be at work."""
        if not (self.partial / RECIPE).is_file():
            return False
        logs = self.partial / LOGS
        return any(logs.glob("*/completions/[0-9]*")) or any(logs.glob(f"*/{SLURM_JOB}"))

    def _is_no_use(self, error: Exception) -> bool:
        """Whether nothing that was made before an error is worth keeping, be it to look at."""
        if self._has_begun():
            return False
        # Tasks of a Ray cluster may still write, and where a machine is the cause, its logs tell more.
        return not (self.partial / LOGS).exists() or (self.is_local and not isinstance(error, MachineError | OSError))

    def _clear(self) -> None:
        for path in self.partial.iterdir():
            if path.name != _LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def publish(self) -> None:
        """Give the finished work its name; an output that is replaced disappears only then.

        Raises:
            MachineError: if the directory cannot be written.
        """
        with writing(self.output):
            for name in ("work", "progress"):
                shutil.rmtree(self.partial / name, ignore_errors=True)
            for path in sorted((self.partial / DOCUMENTS).iterdir()):
                flush_to_disk(path)
            (self.partial / _LOCK).unlink(missing_ok=True)
            publish_directory(self.partial, self.output)
            # Until here a second run would have needed them for the report.
            shutil.rmtree(self.output / "counts", ignore_errors=True)

    def _check(self, folder: Path, verb: str) -> None:
        try:
            before = orjson.loads((folder / RECIPE).read_bytes())
        except orjson.JSONDecodeError:
            raise DataError("is damaged", where=folder / RECIPE, expected="--overwrite to begin anew") from None
        if isinstance(before, dict) and isinstance(before.get("settings"), dict):
            before["settings"], _ = rename_keys(CleanConfig, before["settings"], folder / RECIPE)
        lines = list(changed_settings(before, self.identity))
        if lines:
            more = [f"and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
            raise DataError(
                f"{verb} from another recipe or input:\n  - " + "\n  - ".join(lines[:_SHOWN] + more),
                where=folder,
                expected="the same recipe and input, another output, or --overwrite to begin anew",
            )


def changed_settings(before: Any, now: Any, key: str = "") -> Iterator[str]:
    """What changed between two nested mappings, one line for each key."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in dict.fromkeys([*before, *now]):
            inner = f"{key}.{name}".removeprefix(".")
            if name not in now:
                yield f"{inner.removeprefix('settings.')} is gone, was {_short(before[name])}"
            elif name not in before:
                yield f"{inner.removeprefix('settings.')} is new: {_short(now[name])}"
            else:
                yield from changed_settings(before[name], now[name], inner)
    elif before != orjson.loads(orjson.dumps(now)):
        yield f"{key.removeprefix('settings.')} was {_short(before)}, is {_short(now)}"


def _foreign(folder: Path) -> list[str]:
    # A kill may leave what was to become one of the files.
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if name not in _OURS and not name.startswith(_TRANSIENT))


def _local_files(names: Iterable[str]) -> Iterator[Path]:
    plain = (name.removeprefix("file://") for name in names)
    return (Path(name) for name in plain if "://" not in name)


def _short(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
