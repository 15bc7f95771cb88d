"""How many tokens the samples of a run have: a run may go on with another length than it began with."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class LengthPhase:
    """Consecutive samples of one length.

    Attributes:
        from_step: steps that were finished before the first of them.
        from_sample: number of the first of them.
        seq_length: tokens in each.
    """

    from_step: int
    from_sample: int
    seq_length: int


class SampleLengths:
    """Converts between the steps, samples and tokens of a run.

    Args:
        phases: in order, the first from step 0 and sample 0 on; the last has no end.

    Attributes:
        phases: those with another length than the one before.
    """

    def __init__(self, phases: tuple[LengthPhase, ...]) -> None:
        kept: list[LengthPhase] = []
        for phase in phases:
            if not kept or phase.seq_length != kept[-1].seq_length:
                kept.append(phase)
        if not kept or kept[0].from_sample:
            raise ValueError(f"sample lengths {phases} do not begin at sample 0")
        self.phases = tuple(kept)
        self._from_tokens = [0]
        for before, phase in pairwise(kept):
            trained = (phase.from_sample - before.from_sample) * before.seq_length
            self._from_tokens.append(self._from_tokens[-1] + trained)

    @classmethod
    def constant(cls, seq_length: int) -> SampleLengths:
        """Of a run whose samples have all the same length."""
        return cls((LengthPhase(0, 0, seq_length),))

    @property
    def have_changed(self) -> bool:
        """Whether there is more than one length."""
        return len(self.phases) > 1

    def tokens(self, samples: float) -> float:
        """Tokens of the first `samples` samples; whole where those are."""
        number = max(0, bisect_right(self.phases, samples, key=lambda phase: phase.from_sample) - 1)
        phase = self.phases[number]
        return self._from_tokens[number] + (samples - phase.from_sample) * phase.seq_length

    def samples(self, tokens: int) -> int:
        """The fewest samples that have `tokens` tokens."""
        number = max(0, bisect_right(self._from_tokens, tokens) - 1)
        phase = self.phases[number]
        return phase.from_sample - (self._from_tokens[number] - tokens) // phase.seq_length

    def samples_at_step(self, steps: float, samples_per_step: float) -> float:
        """Samples of the first `steps` steps, if all steps of a phase are alike.

        Args:
            steps: how many.
            samples_per_step: of the last phase, whose end is not known yet.
        """
        number = max(0, bisect_right(self.phases, steps, key=lambda phase: phase.from_step) - 1)
        phase = self.phases[number]
        if number + 1 < len(self.phases):
            following = self.phases[number + 1]
            samples_per_step = (following.from_sample - phase.from_sample) / (following.from_step - phase.from_step)
        return phase.from_sample + (steps - phase.from_step) * samples_per_step
