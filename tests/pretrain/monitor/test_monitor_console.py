from __future__ import annotations

import io
import math

import pytest

from pretrain.monitor import wording
from pretrain.monitor.console import ConsoleLog, step_line

VALUES = {
    "loss": 4.12345,
    "learning_rate": 2.9e-3,
    "grad_norm": 1.2345,
    "tokens_per_s": 12345.0,
    "mfu": 0.412,
    "skipped_total": 2,
    "host_memory_bytes": 3 * 2**29,
    "time_left_s": 192.0,
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_step_is_one_line_with_everything() -> None:
    assert step_line(120, 300, VALUES) == (
        "step 120/300 | loss 4.1235 | lr 2.90e-03 | grad norm 1.234 | 12.3k tokens/s | MFU 41.2% | skipped 2"
        " | 1.50 GiB | 3 min 12 s left"
    )


def test_of_several_losses_each_stands_behind_what_is_trained() -> None:
    line = step_line(1, None, VALUES | {"losses": {"mlm": 3.5, "pair": 0.62346}})
    assert line.startswith("step 1 | loss 4.1235 (mlm 3.5000, pair 0.6235) | lr 2.90e-03")


def test_what_is_not_known_is_left_out() -> None:
    values = {"loss": math.nan, "learning_rate": 0.0, "grad_norm": math.inf, "tokens_per_s": None, "mfu": None}
    assert step_line(1, None, values) == "step 1 | loss nan | lr 0.00e+00 | grad norm inf"


def test_a_log_gets_plain_lines() -> None:
    output = io.StringIO()
    console = ConsoleLog(300, output)
    console.refresh(119, VALUES)  # only a terminal has a live line
    console.write("train", 120, VALUES)
    console.write("validation", 120, {"name": "books", "loss": 2.0, "perplexity": 7.389, "bits_per_byte": 1.5})
    console.write("event", 120, {"text": "saved [bold]step[/bold]"})
    console.close()
    lines = output.getvalue().splitlines()
    assert lines[0].startswith("step 120/300 | loss 4.1235")
    assert lines[1] == "books at step 120: loss 2.0000 | perplexity 7.39 | 1.5000 bits per byte"
    assert lines[2] == "saved [bold]step[/bold]"
    assert len(lines) == 3 and "\x1b" not in output.getvalue()


def test_a_terminal_gets_a_live_line_and_lines_that_stay() -> None:
    output = Terminal()
    console = ConsoleLog(300, output)
    assert console.is_live
    console.refresh(119, VALUES)
    console._live.refresh()
    assert "step 119/300" in output.getvalue()
    console.write("event", 119, {"text": "saved [red]x[/red] " + "y" * 300})
    console.close()
    assert "saved [red]x[/red]" in output.getvalue()
    assert "y" * 300 in output.getvalue()  # not cut, not wrapped
    assert not console.is_live


@pytest.mark.parametrize(
    ("value", "text"),
    [(950, "950"), (12345, "12.3k"), (1_235_000, "1.24M"), (999_960, "1M"), (6_738_415_616, "6.74B"), (2e12, "2T")],
)
def test_counts(value: float, text: str) -> None:
    assert wording.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4, "0 s"), (59.7, "1 min 00 s"), (192, "3 min 12 s"), (14700, "4 h 05 min"), (183600, "2 d 03 h")],
)
def test_times(value: float, text: str) -> None:
    assert wording.seconds(value) == text
    assert wording.seconds(math.inf) == "unknown"


def test_sizes() -> None:
    assert (wording.size(2**29), wording.size(3 * 2**29)) == ("512 MiB", "1.50 GiB")
