"""`python -m pretrain.checkpoint inspect|verify|average DIR`: checkpoints without ranks, and without torch to look."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import ConfigError, ExitStatus, guarded
from configs.paths import input_path, output_path
from pretrain.checkpoint.index import Index
from pretrain.checkpoint.manifest import MASTER, ManifestProblem
from pretrain.checkpoint.reader import CheckpointReader, find_checkpoints
from pretrain.data.saved_history import saved_history

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Look into checkpoints; average them.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Directory = Annotated[
    Path,
    typer.Argument(
        metavar="DIRECTORY", parser=input_path, help="One checkpoint (step_...), or a directory that holds some."
    ),
]


@app.command()
def inspect(
    directory: Directory,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON value.")] = False,
) -> None:
    """Show step, source layout and tensors of a checkpoint (of a directory: the newest)."""
    reader = CheckpointReader(directory)
    index = reader.index
    shapes = {name: list(source.shape) for name, source in index.sources.items()}
    if as_json:
        print(json.dumps({"path": str(reader.path), "metadata": reader.metadata, "tensors": shapes}, indent=2))
        return
    kept = [source.states for source in index.sources.values() if MASTER in source.states]
    states = dict.fromkeys(state for source in index.sources.values() for state in source.states)
    each = "each " if len(set(kept)) == 1 and len(kept) == len(shapes) else ""
    metadata, total = reader.metadata, sum(part.file_bytes for part in index.parts)
    history, samples = saved_history(metadata), metadata.get("consumed_samples")
    facts = {
        "path": reader.path,
        "step": f"{reader.step:,}",
        "samples": f"{samples:,}" if isinstance(samples, int) else None,
        "tokens": f"{history.lengths.tokens(samples):,}" if history and isinstance(samples, int) else None,
        "layout": _layout(metadata.get("layout")),
        "written by": f"bessemer {metadata['bessemer_version']}" if "bessemer_version" in metadata else None,
        "size": f"{total / 1e6:,.1f} MB in {len(index.parts)} parts",
        "tensors": f"{len(kept)}, {each}with {', '.join(states)}",
    }
    for key, value in facts.items():
        if value is not None:
            print(f"{key:<11}{value}")
    width = max(map(len, shapes), default=4)
    print(f"\n{'tensor':<{width}}  {'shape':<16} shards")
    for name, source in index.sources.items():
        print(f"{name:<{width}}  {' x '.join(map(str, source.shape)) or 'scalar':<16} {len(source.shards)}")


@app.command()
def verify(directory: Directory) -> None:
    """Read everything and compare every hash; status 2 when anything is damaged."""
    damaged = 0
    for path in find_checkpoints(directory):
        started_s = time.perf_counter()
        try:
            index = Index.open(path)
            problems = [line for number in range(len(index.parts)) for line in index.find_damage(number)]
        except ManifestProblem as problem:
            problems = [str(problem)]
        if problems:
            damaged += 1
            print(f"{path}: DAMAGED")
            for line in problems:
                print(f"  {line}")
        else:
            size = sum(part.file_bytes for part in index.parts)
            print(f"{path}: sound ({size / 1e6:,.1f} MB in {time.perf_counter() - started_s:.1f} s)")
    if damaged:
        raise typer.Exit(int(ExitStatus.USER_ERROR))


@app.command("average")
def average_command(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="CHECKPOINT...", parser=input_path, help="Checkpoints (step_...), or directories: their newest."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="The run's directory to make.")
    ],
    weights: Annotated[
        str | None,
        typer.Option(metavar="NUMBER,...", help="How much each counts, relative to the others; else all the same."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier mean in the output.")] = False,
) -> None:
    """Write the mean of the weights of several checkpoints of one model, without states of an optimizer."""
    from pretrain.checkpoint.averaging import average

    try:
        numbers = None if weights is None else [float(number) for number in weights.split(",")]
    except ValueError:
        raise ConfigError(f"is {weights}", where="--weights", expected="numbers with commas, such as 1,1,2") from None
    found = average(checkpoints, output, numbers, overwrite=overwrite)
    for path, share in found.shares.items():
        print(f"{share:7.2%}  {path}")
    print(f"mean of {found.num_tensors} tensors, summed in fp64: {found.path}")
    if found.left_out:
        print(f"left out: {', '.join(found.left_out)}. A mean has no optimizer states, and no run resumes from it")
    print(f"next: start_from={output} in a new run, or python -m finetune export --model {output} --output ...")


def _layout(layout: object) -> str | None:
    if not isinstance(layout, dict):
        return None
    return ", ".join(f"{key} {value}" for key, value in layout.items())


if __name__ == "__main__":
    guarded(lambda: app(prog_name="python -m pretrain.checkpoint"))
