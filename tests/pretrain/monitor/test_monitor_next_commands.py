"""What is proposed after a run can be typed as it stands."""

from __future__ import annotations

import io
import itertools
import shlex
from pathlib import Path

import pytest
from monitor_runs import run_config
from test_monitor_summary import outcome

from configs.errors import ConfigError
from pretrain.config import RunConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.models.huggingface.family import counterpart_of, obstacle_to_export
from pretrain.monitor.next_commands import next_commands
from pretrain.monitor.summary import write_summary

NO_COUNTERPART = ("model.position_embedding=learned", "model.normalization=RMSNorm")


def commands(config: RunConfig) -> list[str]:
    return next_commands(config.output, config.model, outcome(), has_tensorboard=config.monitor.tensorboard)


@pytest.mark.parametrize("name", ["run", "my run's $(HOME)", "-run"])
def test_paths_are_words_of_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    export, tensorboard, plot = map(shlex.split, commands(run_config(Path(name))))
    run = f"./{name}" if name.startswith("-") else name
    assert export == ["python", "-m", "finetune", "export", "--model", run, "--output", f"{run}/export"]
    assert tensorboard == ["tensorboard", "--logdir", f"{run}/tensorboard", "--host", "127.0.0.1"]
    assert plot == ["python", "-m", "pretrain.monitor", "plot", run]


def test_an_export_goes_where_nothing_is_yet(tmp_path: Path) -> None:
    def target() -> str:
        return shlex.split(commands(run_config(tmp_path))[0])[-1]

    assert target() == f"{tmp_path}/export"
    (tmp_path / "export").mkdir()
    assert target() == f"{tmp_path}/export-2"
    (tmp_path / "export-2").symlink_to("nowhere")
    assert target() == f"{tmp_path}/export-3"


def test_a_model_without_counterpart_is_told_why_it_has_no_export(tmp_path: Path) -> None:
    config = run_config(tmp_path, *NO_COUNTERPART)
    summary = write_summary(config, outcome(), io.StringIO())
    assert not any("finetune export" in command for command in summary["next_commands"])
    rows = (tmp_path / "summary.txt").read_text().splitlines()
    said = (
        "none: Hugging Face's transformers know no model that has"
        " model.position_embedding=learned with all else as this model has it"
    )
    assert [row.split(maxsplit=1)[1] for row in rows if row.startswith("export")] == [said]
    # Without a checkpoint there is nothing to export anyway.
    write_summary(config, outcome(checkpoint=None), io.StringIO())
    assert "export" not in (tmp_path / "summary.txt").read_text()


def test_the_obstacle_is_the_one_that_the_export_finds() -> None:
    norms, activations = ("LayerNorm", "RMSNorm"), ("gelu", "gelu_tanh", "swiglu")
    for position, norm, activation, groups in itertools.product(("learned", "rope"), norms, activations, (None, 2, 4)):
        model = GPTConfig(
            num_layers=1,
            hidden_size=32,
            num_attention_heads=4,
            seq_length=8,
            num_query_groups=groups,
            position_embedding=position,  # type: ignore[arg-type]
            normalization=norm,  # type: ignore[arg-type]
            activation=activation,  # type: ignore[arg-type]
        )
        obstacle = obstacle_to_export(model)
        if obstacle is None:
            counterpart_of(model)
            continue
        with pytest.raises(ConfigError) as caught:
            counterpart_of(model)
        assert str(caught.value.where) in obstacle


def test_a_terminal_does_not_break_commands_into_lines(tmp_path: Path) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    output, directory = Terminal(), tmp_path / ("long" * 40)
    summary = write_summary(run_config(directory), outcome(), output)
    lines = output.getvalue().splitlines()
    assert all(any(line.endswith(command) for line in lines) for command in summary["next_commands"])
