"""What users meet first, help and config errors, must not wait for the heavy libraries."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = (
    "torch",
    "deepspeed",
    "megatron",
    "transformers",
    "datasets",
    "sklearn",
    "pyarrow",
    "matplotlib",
    "pandas",
)

# Runs an entry as Python itself would, once for each list of arguments, then tells on standard error's last line how
# each ended and what it loaded.
PROBE = """
import json, runpy, sys
heavy, entry, runs = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
ended = []
for arguments in runs:
    status = 0
    sys.argv[1:] = arguments
    try:
        if entry.endswith(".py"):
            sys.argv[0] = entry
            sys.path[0] = entry.rpartition("/")[0]
            runpy.run_path(entry, run_name="__main__")
        else:
            runpy.run_module(entry, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code or 0
    ended.append({"status": status, "loaded": [name for name in heavy if name in sys.modules]})
print(json.dumps(ended), file=sys.stderr)
"""
HELP = {
    "configs": ["check", "reference", "schema"],
    "cluster": ["preflight"],
    "data_prep": [
        "sample-corpus",
        "train-tokenizer",
        "import-tokenizer",
        "tokenizer-report",
        "clean",
        "build",
        "tokenize",
        "verify",
        "merge",
        "inspect",
        "stats",
        "mix",
        "ngram",
    ],
    "pretrain/main.py": ["evaluate"],
    "finetune": [
        "answer",
        "classify",
        "embed",
        "evaluate",
        "export",
        "generate",
        "import",
        "instruct",
        "predict",
        "prefer",
        "qa",
        "run",
        "seq2seq",
        "tag",
    ],
    "finetune/tag.py": [],
}
MISTAKES = [
    ("pretrain/main.py", "--config", "gpt-tniy"),
    ("pretrain/main.py", "--config", "gpt-tiny", "model.hiden_size=64"),
    ("pretrain/main.py", "--config", "gpt-tiny", "model.hidden_size=large"),
    ("data_prep", "tokenize", "--config", "tokenise-sample"),
    ("finetune", "run", "task=clasify"),
]


def start(entry: str, *runs: list[str]) -> tuple[list[dict[str, object]], str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    command = [sys.executable, "-c", PROBE, json.dumps(HEAVY), entry, json.dumps(runs)]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stderr.splitlines()
    assert lines and lines[-1].startswith("[{"), done.stderr
    return json.loads(lines[-1]), done.stdout, "\n".join(lines[:-1])


@pytest.mark.parametrize("entry", HELP)
def test_help_is_there_at_once(entry: str) -> None:
    runs = [["--help"], *([command, "--help"] for command in HELP[entry])]
    seen, out, err = start(entry, *runs)
    assert seen == [{"status": 0, "loaded": []}] * len(runs), err
    assert out.lower().count("usage: ") == len(runs)
    assert all(re.search(rf"usage: .*{command}", out, re.IGNORECASE) for command in HELP[entry])


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_config_error_comes_at_once_and_names_the_mistake(command: tuple[str, ...]) -> None:
    seen, _, err = start(command[0], list(command[1:]))
    assert seen == [{"status": 2, "loaded": []}], err
    mistake = command[-1].partition("=")[0].rpartition(".")[2]
    assert err.startswith("error: ") and mistake in err and "Traceback" not in err


def test_the_probe_sees_a_heavy_import(tmp_path: Path) -> None:
    script = tmp_path / "heavy.py"
    script.write_text("import pyarrow\nraise SystemExit(3)\n")
    seen, _, _ = start(str(script), [], [])
    assert seen == [{"status": 3, "loaded": ["pyarrow"]}] * 2
