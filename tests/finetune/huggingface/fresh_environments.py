"""Exports read by other versions of transformers, in environments that have none of this project.

    python -m tests.finetune.huggingface.fresh_environments [--folder DIR] [--only NAME] [VERSION ...]

Makes an environment for each version with pip (needs PyPI; torch is lent from here), exports a pretrained model and one
of each class, classifiers made from them too, and prints what each version makes of them. What is expected comes from
megatron-core, SentencePiece and arithmetic on their logits. Without `--folder`, everything is temporary;
`--only qwen2` asks of that model alone, and may stand more than once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tests.finetune.huggingface import fresh_reader
from tests.finetune.huggingface.fresh_expectations import KNOWN, expectations, first_token_losses

VERSIONS = ("4.57.*", "5.0.*", "5.*")
"""The oldest of the range that the model card states, the oldest of our own, the newest."""
PACKAGES = ("lm_eval[hf]", "gguf", "sentencepiece", "protobuf")


def make_environment(folder: Path, transformers_version: str) -> Path:
    """An environment with this version of transformers; returns its Python. One that is there already is kept."""
    place = folder / f"transformers-{transformers_version.replace('*', 'x')}"
    python = place / "bin" / "python"
    if (place / "made").is_file():
        return python
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=False, symlinks=True)
    lend_torch(place)
    wanted = [f"transformers=={transformers_version}", *PACKAGES]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"pip cannot install {' '.join(wanted)}:\n{done.stderr[-3000:]}")
    (place / "made").touch()
    return python


def lend_torch(place: Path) -> None:
    """Let an environment see torch of this one, and nothing else of it."""
    lent = place / "lent"
    lent.mkdir()
    torch_distribution = distribution("torch")
    names = {Path(file).parts[0] for file in torch_distribution.files or [] if not str(file).startswith("..")}
    for name in names:
        source = Path(str(torch_distribution.locate_file(name)))
        if source.exists():
            (lent / name).symlink_to(source)
    packages = next((place / "lib").glob("python*/site-packages"))
    (packages / "lent.pth").write_text(f"{lent}\n")


def read_in(python: Path, expected: Path) -> dict[str, Any]:
    """What the environment of this Python makes of the exports."""
    environ = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    command = [str(python), str(Path(fresh_reader.__file__)), str(expected)]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def show(found: list[dict[str, Any]]) -> int:
    """Print the table; returns how many cells are wrong."""
    versions = [each["versions"]["transformers"] for each in found]
    print(f"\n{'check':24} {'model':34} " + " ".join(f"{name:>14}" for name in versions))
    wrong = []
    for cells in zip(*(each["results"] for each in found), strict=True):
        check, model = cells[0][:2]
        shown = " ".join(f"{cell[3] if cell[2] else 'WRONG':>14}" for cell in cells)
        print(f"{check:24} {model:34} {shown}")
        wrong += [f"{check}, {model}, {version}: {cell[3]}" for version, cell in zip(versions, cells) if not cell[2]]
    print("\n".join(["", *wrong, f"{len(found[0]['results'])} checks in {len(found)} versions, {len(wrong)} wrong"]))
    return len(wrong)


def main(arguments: list[str]) -> int:
    """Print the table; the status says whether everything was right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, help="where environments and exports stay")
    parser.add_argument("--only", action="append", metavar="NAME", choices=KNOWN, help="a model of the table")
    parser.add_argument("versions", nargs="*", default=VERSIONS, metavar="VERSION", help="as pip has them after ==")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="fresh-environments-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / "made"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir()
        pythons = [make_environment(folder, version) for version in given.versions]
        expected = expectations(made, given.only or KNOWN)
        (made / "expected.json").write_text(json.dumps(expected))
        wrong = show([read_in(python, made / "expected.json") for python in pythons])
        losses = first_token_losses(expected[0], made) if expected[0]["name"] == "pretrained" else {}
    for name, loss in losses.items():
        print(f"first token of a document: loss {loss:.2f} after {name}")
    return int(wrong > 0)


if __name__ == "__main__":
    # The rank finds its function by its module's name, which is not `__main__` there.
    from tests.finetune.huggingface import fresh_environments

    sys.exit(fresh_environments.main(sys.argv[1:]))
