"""Instruction tuning under a launcher: `deepspeed finetune/instruct.py --config ... key=value ...`."""

from __future__ import annotations

import sys
from pathlib import Path

# Started as a script, Python would look for modules among this room's files first.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import typer

from finetune.instruct_command import instruct_command


def main() -> None:
    """Run the command line; a user's mistake ends it with one message and status 2, told by the main process."""
    from pretrain.parallel.launch import told_once

    with told_once():
        typer.run(instruct_command)


if __name__ == "__main__":
    main()
