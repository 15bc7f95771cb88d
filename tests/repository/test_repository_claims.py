"""What the pages count is what there is."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

from tests.pretrain.engine.encoder_cases import ENCODER_CASES
from tests.pretrain.engine.layout_cases import CASES
from tests.pretrain.engine.objective_cases import OBJECTIVE_CASES

ROOT = Path(__file__).parents[2]


def test_the_pages_count_the_layouts_that_are_tested() -> None:
    for page in ("README.md", "docs/layouts.md"):
        counts = re.findall(r"(\d+) layouts", (ROOT / page).read_text())
        assert counts == [str(len(CASES))], page
    counts = re.findall(r"(\d+) cases more", (ROOT / "docs/layouts.md").read_text())
    assert counts == [str(len(ENCODER_CASES + OBJECTIVE_CASES))]


def test_every_zero_stage_is_tested_with_every_axis_and_with_all_together() -> None:
    tested = {(case.parallel.get("zero_stage"), axis) for case in CASES for axis in _axes(case)}
    assert set(product(range(4), ("tensor", "pipeline", "data", "all"))) <= tested


def _axes(case) -> set[str]:
    tensor, pipeline = (case.parallel.get(f"{axis}_size", 1) for axis in ("tensor", "pipeline"))
    sizes = {"tensor": tensor, "pipeline": pipeline, "data": case.ranks // (tensor * pipeline)}
    used = {axis for axis, size in sizes.items() if size > 1}
    return used | {"all"} if len(used) == 3 else used
