"""What the figures depend on: the device, the versions, the commit. Prints one line of JSON.

A process of its own: who has asked a GPU keeps memory on it, and where only one process may use it, keeps it.
"""

from __future__ import annotations

import json
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from benchmarks.gpu_check.commands import ROOT

PACKAGES = ("torch", "deepspeed", "megatron-core", "transformers")


def described() -> dict[str, Any]:
    """The versions and the commit; of a GPU, where there is one, what it is."""
    import torch

    found: dict[str, Any] = {"device": None}
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found = {
            "device": properties.name,
            "devices": torch.cuda.device_count(),
            "memory_gib": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found | {"commit": _commit()}


def _commit() -> str | None:
    """The commit, with `+` where files differ from it; None outside a repository."""
    differs = ["status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results"]
    try:
        told = [
            subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
            for words in (["rev-parse", "HEAD"], differs)
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return told[0].strip() + ("+" if told[1].strip() else "")


if __name__ == "__main__":
    print(json.dumps(described()), flush=True)
