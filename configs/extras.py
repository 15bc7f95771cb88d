"""How the optional packages are installed: they are extras of the checkout, for no index has this distribution."""

from __future__ import annotations

import shlex
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]


def install_command(extra: str) -> str:
    """The command that adds the packages of an extra of pyproject.toml to this environment."""
    constraints, project = CHECKOUT / "constraints.txt", f"{CHECKOUT}[{extra}]"
    return f"pip install -c {shlex.quote(str(constraints))} -e {shlex.quote(project)}"
