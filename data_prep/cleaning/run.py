"""`clean`: from a recipe to the finished directory."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from configs.errors import DataError, MachineError
from configs.extras import install_command
from data_prep.cleaning.config import CleanConfig

# What the recipe's stages need, beside datatrove: module and package.
_NEEDED = (
    ("datatrove", "datatrove"),
    ("spacy", "spacy"),
    ("regex", "regex"),
    ("xxhash", "xxhash"),
)
_NEEDED_BY = {
    "unicode": (("ftfy", "ftfy"),),
    "language": (("lingua", "lingua-language-detector"),),
    "html": (("trafilatura", "trafilatura"),),
    "warc": (("trafilatura", "trafilatura"), ("warcio", "warcio")),
}


@dataclass(frozen=True)
class Cleaned:
    """What `clean` made.

    Attributes:
        report: what `report.json` holds.
        was_there: the output was finished before, and nothing was done.
    """

    report: dict[str, Any]
    was_there: bool


def clean(config: CleanConfig) -> Cleaned:
    """Clean the documents of all sources.

    Raises:
        ConfigError: for a setting that means what is not there.
        DataError: for input that cannot be read, too much malformed input, an output of another recipe, or a result
            without a document; its report stays, under the name of the unfinished output.
        MachineError: for a machine that lacks a package, space or a cluster.
    """
    check_packages(config.stages)
    # datatrove takes a second to import, which no mistake in the recipe has to wait for.
    from data_prep.cleaning.comparison import warnings_of_older
    from data_prep.cleaning.executors import check_ray, quiet, run_phase
    from data_prep.cleaning.language_warnings import warnings_of_settings
    from data_prep.cleaning.phases import PhaseBuilder
    from data_prep.cleaning.plan import make_plan
    from data_prep.cleaning.record_fields import check_compared_field
    from data_prep.cleaning.report import check_something_is_kept
    from data_prep.cleaning.watch import Watch
    from data_prep.cleaning.workspace import REPORT, Workspace

    quiet()
    if config.executor == "ray":
        check_ray()
    plan = make_plan(config)
    check_packages(sorted(plan.kinds))
    workspace = Workspace(config, plan)
    if workspace.finished():
        return Cleaned(orjson.loads((workspace.output / REPORT).read_bytes()), was_there=True)
    began = time.monotonic()
    with workspace.working() as root:
        phases = PhaseBuilder(config, plan, root).build()
        for line in (*warnings_of_settings(config), *warnings_of_older(config)):
            print(f"warning: {line}", file=sys.stderr, flush=True)
        with Watch(root, [(phase.name, phase.what, phase.tasks) for phase in phases]) as watch:
            for number, phase in enumerate(phases):
                watch.begin(number)
                run_phase(phase, config, root)
                check_malformed(config, root)
                if number == 0 or phases[number - 1].name.endswith("_evaluation"):
                    check_compared_field(config, merged_counts(config, root).stage("read"))
                for folder in phase.spent:
                    shutil.rmtree(folder, ignore_errors=True)
        report = _report(config, plan, root, time.monotonic() - began)
        check_something_is_kept(report, root / "report.html")
        workspace.publish()
    return Cleaned(report, was_there=False)


def check_packages(uses: Sequence[str]) -> None:
    """See that the packages are there that cleaning needs for these stages and formats.

    Raises:
        MachineError: if one is missing; names the extra that brings it.
    """
    needed = [*_NEEDED, *(pair for use in uses for pair in _NEEDED_BY.get(use, ()))]
    missing = list(dict.fromkeys(package for module, package in needed if find_spec(module) is None))
    if missing:
        raise MachineError(f"cleaning needs {', '.join(missing)}", where="clean", expected=install_command("clean"))
    if ("trafilatura", "trafilatura") in needed:
        # datatrove takes pages for empty when the import fails.
        try:
            import_module("trafilatura")
        except ImportError as error:
            first = str(error).splitlines()[0]
            raise MachineError(
                f"trafilatura cannot be imported: {first}", where="clean", expected=install_command("clean")
            ) from None


def check_malformed(config: CleanConfig, root: Path) -> None:
    """See that no source has more malformed records than the recipe allows.

    Raises:
        DataError: if one has.
    """
    from data_prep.cleaning.counts import MALFORMED

    stage = merged_counts(config, root).stage("read")
    for source, tally in stage.sources.items():
        malformed = stage.dropped(source, MALFORMED)
        if malformed <= config.max_malformed_share * tally.documents_in:
            continue
        reasons = {r: c[source][0] for r, c in stage.reasons.items() if r.startswith(MALFORMED) and source in c}
        most = max(reasons, key=lambda reason: reasons[reason])
        first = next((s for s in stage.samples.get(most, []) if s.source == source), None)
        where = f"sources.{source}" + (f", {first.id}" if first else "")
        hint = f", {first.detail}" if first and first.detail else ""
        raise DataError(
            f"{malformed:,} of {tally.documents_in:,} records are malformed; the first has "
            f"{most.partition(': ')[2]}{hint}",
            where=where,
            expected=f"a share of max_malformed_share = {config.max_malformed_share:g} or less",
        )


def merged_counts(config: CleanConfig, root: Path) -> Any:
    """The counts of all phases and tasks as one; in the order of tasks, so that samples are the same every time."""
    from data_prep.cleaning.counts import CleaningCounts

    merged = CleaningCounts()
    for path in sorted((root / "counts").glob("*/*.json")):
        merged.add(CleaningCounts.load(path), config.samples_per_reason)
    return merged


def _report(config: CleanConfig, plan: Any, root: Path, elapsed_s: float) -> dict[str, Any]:
    from data_prep.cleaning.page import page
    from data_prep.cleaning.report import make_report
    from data_prep.cleaning.workspace import REPORT
    from data_prep.storage.publishing import staged_file

    report = make_report(config, plan, merged_counts(config, root), root / "documents", elapsed_s)
    with staged_file(root / "report.html") as temporary:
        temporary.write_text(page(report), encoding="utf-8")
    with staged_file(root / REPORT) as temporary:
        temporary.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2))
    return report
