"""What is wrong with the shards of a corpus, as it is collected and told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from configs.errors import DataError


@dataclass(frozen=True)
class ShardProblem:
    """One thing that is wrong.

    Attributes:
        file: where.
        text: place within the file, and what is wrong there.
    """

    file: Path
    text: str

    def __str__(self) -> str:
        return f"{self.file}: {self.text}"


@dataclass
class Problems:
    """Problems found; of one kind in one file, the first ones in words and how many more there are."""

    limit: int
    found: list[ShardProblem] = field(default_factory=list)
    seen: Counter[tuple[Path, str]] = field(default_factory=Counter)

    def add(self, file: Path, kind: str, text: str) -> None:
        """Note a problem."""
        self.seen[file, kind] += 1
        if self.seen[file, kind] <= self.limit:
            self.found.append(ShardProblem(file, text))

    def add_many(self, file: Path, kind: str, texts: list[str], count: int) -> None:
        """Note `count` problems, the first of which `texts` says."""
        if count:
            self.found += [ShardProblem(file, text) for text in texts[: max(0, self.limit - self.seen[file, kind])]]
            self.seen[file, kind] += count

    def take(self, other: Problems) -> None:
        """Add what was found elsewhere."""
        self.found += other.found
        self.seen += other.seen

    def refuse(self, corpus: Path) -> None:
        """Raise the first problem, if there is one, of `corpus`.

        Raises:
            DataError: that problem.
        """
        if self.found:
            expected = f"what was written; `python -m data_prep verify {corpus}` names every problem"
            raise DataError(self.found[0].text, where=self.found[0].file, expected=expected)

    @property
    def count(self) -> int:
        """How many there are, those not put into words included."""
        return self.seen.total()

    def left_out(self) -> list[str]:
        """A line for each file and kind of which not all are in words."""
        return [
            f"{file}: {count - self.limit:,} more of: {kind}"
            for (file, kind), count in self.seen.items()
            if count > self.limit
        ]
