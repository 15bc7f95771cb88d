"""What users meet first, help and config errors, must not wait for the heavy libraries."""

from __future__ import annotations

import json
import os
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

# Runs an entry as Python itself would, then tells on standard error's last line what it loaded.
PROBE = """
import json, runpy, sys
heavy, entry, sys.argv[1:] = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
status = 0
try:
    if entry.endswith(".py"):
        sys.argv[0] = entry
        sys.path[0] = entry.rpartition("/")[0]
        runpy.run_path(entry, run_name="__main__")
    else:
        runpy.run_module(entry, run_name="__main__", alter_sys=True)
except SystemExit as end:
    status = end.code or 0
print(json.dumps({"status": status, "loaded": [name for name in heavy if name in sys.modules]}), file=sys.stderr)
"""
HELP = [
    ("configs", "--help"),
    ("cluster", "--help"),
    ("cluster", "preflight", "--help"),
    ("data_prep", "--help"),
    ("data_prep", "sample-corpus", "--help"),
    ("data_prep", "train-tokenizer", "--help"),
    ("data_prep", "import-tokenizer", "--help"),
    ("data_prep", "tokenizer-report", "--help"),
    ("data_prep", "clean", "--help"),
    ("data_prep", "build", "--help"),
    ("data_prep", "tokenize", "--help"),
    ("data_prep", "verify", "--help"),
    ("data_prep", "merge", "--help"),
    ("data_prep", "inspect", "--help"),
    ("data_prep", "stats", "--help"),
    ("data_prep", "mix", "--help"),
    ("data_prep", "ngram", "--help"),
    ("pretrain/main.py", "--help"),
    ("finetune", "--help"),
    ("finetune", "classify", "--help"),
    ("finetune", "export", "--help"),
    ("finetune", "generate", "--help"),
    ("finetune", "run", "--help"),
]
MISTAKES = [
    ("pretrain/main.py", "--config", "gpt-tniy"),
    ("pretrain/main.py", "--config", "gpt-tiny", "model.hiden_size=64"),
    ("pretrain/main.py", "--config", "gpt-tiny", "model.hidden_size=large"),
    ("data_prep", "tokenize", "--config", "tokenise-sample"),
    ("finetune", "run", "task=clasify"),
]


def start(entry: str, *arguments: str) -> tuple[dict[str, object], str, str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    command = [sys.executable, "-c", PROBE, json.dumps(HEAVY), entry, *arguments]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stderr.splitlines()
    assert lines and lines[-1].startswith("{"), done.stderr
    return json.loads(lines[-1]), done.stdout, "\n".join(lines[:-1])


@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_help_is_there_at_once(command: tuple[str, ...]) -> None:
    seen, out, err = start(*command)
    assert seen == {"status": 0, "loaded": []}, err
    assert "usage" in out.lower()


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_a_config_error_comes_at_once_and_names_the_mistake(command: tuple[str, ...]) -> None:
    seen, _, err = start(*command)
    assert seen == {"status": 2, "loaded": []}, err
    mistake = command[-1].partition("=")[0].rpartition(".")[2]
    assert err.startswith("error: ") and mistake in err and "Traceback" not in err


def test_the_probe_sees_a_heavy_import(tmp_path: Path) -> None:
    script = tmp_path / "heavy.py"
    script.write_text("import pyarrow\nraise SystemExit(3)\n")
    seen, _, _ = start(str(script))
    assert seen == {"status": 3, "loaded": ["pyarrow"]}
