"""Distillation of a language model, as a script for launchers: `deepspeed finetune/distill.py --config ...`.

The same as `python -m finetune distill`, options and settings included.
"""

from __future__ import annotations

import sys
from pathlib import Path

# Started as a script, Python would look for modules among this room's files (`config`, `batches`) first.
if sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from finetune.cli import main

if __name__ == "__main__":
    main([Path(__file__).stem, *sys.argv[1:]])
