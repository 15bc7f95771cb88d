"""The merged counts -> the report: what each stage dropped, in all, per source and per reason, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from configs.errors import DataError
from data_prep.cleaning.comparison import warnings_of_older
from data_prep.cleaning.config import CleanConfig
from data_prep.cleaning.counts import CleaningCounts, DocumentCounts, StageCounts, length_of_class
from data_prep.cleaning.language_warnings import warnings_of_result, warnings_of_settings
from data_prep.cleaning.plan import CleaningPlan
from data_prep.cleaning.record_fields import warnings_of_fields

# Stages that change or drop documents come with their names in the recipe; these stand around them.
_BEFORE = ("read", "sample", "extract")
_COSTS_ONLY = ("write", "reread")
_SHOWN_REASONS = 3


def make_report(
    config: CleanConfig, plan: CleaningPlan, all_counts: CleaningCounts, documents: Path, elapsed_s: float
) -> dict[str, Any]:
    """The report as plain values.

    Args:
        config: the recipe.
        plan: its input.
        all_counts: of all tasks.
        documents: the directory of the output shards.
        elapsed_s: seconds that the command took, without what an earlier run of it had done.
    """
    order = [name for name in (*_BEFORE, *config.stages) if all_counts.stages.get(name, StageCounts()).sources]
    stages = [_stage(name, all_counts.stages[name]) for name in order]
    first = all_counts.stages["read"]
    # Not all sources pass all stages.
    last = {source: _last_counts(all_counts, order, source) for source in config.sources}
    shards = sorted(documents.glob("*.jsonl*"))
    report = {
        "recipe": config.model_dump(mode="json"),
        "input": {
            "files": len(plan.inputs),
            "stored_bytes": plan.size_bytes,
            "empty_files": plan.empty,
            "unread_files": len(plan.unread),
            **_flow(first, "in"),
        },
        "output": {
            "shards": len(shards),
            "stored_bytes": sum(p.stat().st_size for p in shards),
            **_flow(StageCounts(last), "out"),
        },
        "sources": {
            name: {
                "documents_in": first.tally(name).documents_in,
                "bytes_in": first.tally(name).bytes_in,
                "documents_out": last[name].documents_out,
                "bytes_out": last[name].bytes_out,
            }
            for name in config.sources
        },
        "stages": stages,
        "languages": dict(sorted(all_counts.languages.items(), key=lambda item: (-item[1], item[0]))),
        "scripts": dict(sorted(all_counts.scripts.items(), key=lambda item: (-item[1], item[0]))),
        "lengths": {kind: _histogram(counts) for kind, counts in sorted(all_counts.lengths.items())},
        "cost": {
            "elapsed_s": round(elapsed_s, 2),
            "stages": {name: _cost(all_counts, name) for name in (*order, *_COSTS_ONLY) if name in all_counts.stages},
        },
    }
    told = [*warnings_of_settings(config), *warnings_of_result(config, report)]
    told += [*warnings_of_fields(config, first), *warnings_of_older(config), *_of_long_files(config, plan, first)]
    return report | {"warnings": list(dict.fromkeys(told))}


def _of_long_files(config: CleanConfig, plan: CleaningPlan, read: StageCounts) -> Iterator[str]:
    """One line for each source of text files of which documents are too long, with what divides them."""
    limit = f"max_document_chars = {config.max_document_chars:,}"
    for source, (documents, _) in sorted(read.reasons.get("too_long", {}).items()):
        parts = {"file": "line or paragraph", "paragraph": "line"}.get(config.sources[source].text_documents)
        units = (unit for part in plan.parts if part.source == source for task in part.tasks for unit in task)
        if parts and any(unit.kind == "text" for unit in units):
            yield (
                f"sources.{source}: too_long ({documents:,}), more than {limit}; "
                f"sources.{source}.text_documents={parts} makes documents of the parts of a text file"
            )


def check_something_is_kept(report: dict[str, Any], page: Path) -> None:
    """See that the result is not nothing.

    Args:
        report: of a finished work.
        page: where its page lies.

    Raises:
        DataError: if no document is left; names the reasons that dropped most.
    """
    if report["output"]["documents_out"]:
        return
    reasons = [
        (entry["documents"], f"{stage['name']}: {reason}")
        for stage in report["stages"]
        for reason, entry in stage["reasons"].items()
    ]
    most = [f"{reason} ({count:,})" for count, reason in sorted(reasons, key=lambda item: -item[0])[:_SHOWN_REASONS]]
    notes = "".join(f"\n  - {line}" for line in report["warnings"])
    raise DataError(
        f"keeps none of {report['input']['documents_in']:,} documents"
        + (f"; most were dropped by {', '.join(most)}" if most else "")
        + notes,
        where="clean",
        expected=f"thresholds that these texts pass; {page} shows samples of what was dropped",
    )


def _stage(name: str, stage: StageCounts) -> dict[str, Any]:
    return {
        "name": name,
        **_flow(stage, "in"),
        **_flow(stage, "out"),
        "changed": sum(tally.changed for tally in stage.sources.values()),
        "dropped": stage.dropped(),
        "words": stage.words,
        "characters": stage.characters,
        "unspaced_characters": stage.unspaced,
        "units": stage.units,
        "sources": {
            source: asdict(tally) | {"dropped": stage.dropped(source)}
            for source, tally in sorted(stage.sources.items())
        },
        "reasons": {reason: _reason(by_source) for reason, by_source in _by_count(stage)},
        "samples": {
            reason: [asdict(sample) for sample in samples] for reason, samples in sorted(stage.samples.items())
        },
    }


def _reason(by_source: dict[str, list[int]]) -> dict[str, Any]:
    return {
        "documents": sum(counts[0] for counts in by_source.values()),
        "bytes": sum(counts[1] for counts in by_source.values()),
        "sources": {source: counts[0] for source, counts in sorted(by_source.items())},
    }


def _by_count(stage: StageCounts) -> Iterator[tuple[str, dict[str, list[int]]]]:
    def documents(reason: str) -> int:
        return sum(counts[0] for counts in stage.reasons[reason].values())

    for reason in sorted(stage.reasons, key=lambda reason: (-documents(reason), reason)):
        yield reason, stage.reasons[reason]


def _last_counts(all_counts: CleaningCounts, order: list[str], source: str) -> DocumentCounts:
    """The counts of the last stage that documents of a source came to."""
    found = (all_counts.stages[name].sources.get(source) for name in reversed(order))
    return next((tally for tally in found if tally is not None), DocumentCounts())


def _flow(stage: StageCounts, side: str) -> dict[str, int]:
    def total(field: str) -> int:
        return sum(getattr(tally, field) for tally in stage.sources.values())

    return {f"documents_{side}": total(f"documents_{side}"), f"bytes_{side}": total(f"bytes_{side}")}


def _cost(all_counts: CleaningCounts, name: str) -> dict[str, float | None]:
    stage = all_counts.stages[name]
    size = sum(tally.bytes_in for tally in stage.sources.values())
    rate = round(size / 1e6 / stage.seconds, 3) if stage.seconds > 0 and size else None
    return {"cpu_s": round(stage.seconds, 3), "megabytes_per_cpu_s": rate}


def _histogram(counts: dict[str, int]) -> list[list[float]]:
    return [[round(length_of_class(int(key)), 1), counts[key]] for key in sorted(counts, key=int)]


def total_dropped(stage: dict[str, Any], source: str) -> int:
    """Documents of one source that a stage of the report dropped."""
    return int(stage["sources"].get(source, asdict(DocumentCounts()) | {"dropped": 0})["dropped"])
