"""The figures of a coordinate check: sizes of activations at several widths, their slopes, a table and a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from configs.columns import to_left, widest
from data_prep.storage.publishing import staged_file

Figure = Literal["size", "change"]


@dataclass(frozen=True)
class Coordinates:
    """What was measured.

    Attributes:
        sizes: by width, of each step from 0 (before training) on: mean absolute value of an activation, by kind.
        changes: by width, of each step from 1 on: mean absolute difference to step 0, by kind.
    """

    sizes: Mapping[int, list[dict[str, float]]]
    changes: Mapping[int, list[dict[str, float]]]

    def curve(self, figure: Figure, kind: str, step: int) -> dict[int, float]:
        """A figure of a kind of layer after a step, by width."""
        if figure == "size":
            return {width: steps[step][kind] for width, steps in self.sizes.items()}
        return {width: steps[step - 1][kind] for width, steps in self.changes.items()}

    def slope(self, figure: Figure, kind: str, step: int) -> float:
        """Exponent of the width that the figure goes with: least squares over the logarithms; 0: it stays.

        Not a number where the figure is 0 somewhere.
        """
        curve = self.curve(figure, kind, step)
        if not all(curve.values()):
            return math.nan
        points = [(math.log(width), math.log(value)) for width, value in curve.items()]
        mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
        return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)

    @property
    def kinds(self) -> list[str]:
        """Kinds of layers that the model has."""
        return list(next(iter(self.sizes.values()))[0])

    @property
    def last_step(self) -> int:
        """Steps that were trained."""
        return len(next(iter(self.changes.values())))

    def table(self) -> str:
        """A line for each kind: its change after the first and the last step, its size before and after."""
        widths = list(self.sizes)
        lines = [["kind", "figure", "step", *(f"width {width}" for width in widths), "slope"]]
        wanted: list[tuple[Figure, int]] = [("change", 1), ("change", self.last_step), ("size", 0)]
        for figure, step in dict.fromkeys([*wanted, ("size", self.last_step)]):
            for kind in self.kinds:
                values = [f"{value:.2e}" for value in self.curve(figure, kind, step).values()]
                lines.append([kind, figure, str(step), *values, f"{self.slope(figure, kind, step):+.2f}"])
        columns = widest(lines)
        return "\n".join("  ".join(map(to_left, line, columns)).rstrip() for line in lines)

    def plot(self, output: Path) -> None:
        """Draw the changes over the widths, a panel for each kind and a line for each step.

        Raises:
            MachineError: if the picture cannot be written.
        """
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure as Picture

        picture = Picture(figsize=(4 * len(self.kinds), 4), layout="constrained")
        FigureCanvasAgg(picture)
        for axes, kind in zip(picture.subplots(1, len(self.kinds), squeeze=False).flat, self.kinds):
            for step in range(1, self.last_step + 1):
                curve = self.curve("change", kind, step)
                axes.loglog(list(curve), list(curve.values()), marker="o", markersize=3, label=f"step {step}")
            axes.set_title(f"{kind}, slope {self.slope('change', kind, self.last_step):+.2f}")
            axes.set_xlabel("hidden_size")
            axes.set_ylabel("mean absolute change since step 0")
            axes.grid(alpha=0.3, which="both")
        picture.axes[0].legend()
        drawn = io.BytesIO()
        picture.savefig(drawn, format="png", dpi=110)
        with staged_file(output) as temporary:
            temporary.write_bytes(drawn.getvalue())
