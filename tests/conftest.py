"""Settings that every test shares. Its presence beside `__init__.py` makes `tests.distributed` importable."""

from __future__ import annotations

import os

# Several ranks share a few cores: one thread each, here and in everything that the tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
