"""Everything about a run that can be checked before a process group or a GPU is touched.

Imports neither torch's distributed parts nor DeepSpeed, so a wrong config is refused within a second or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import ConfigError
from pretrain.config import ModelConfig, MonitorConfig, OptimizerConfig, RunConfig, TrainingConfig
from pretrain.parallel.launch import Launch, discover
from pretrain.parallel.layout import Layout, resolve_layout
from pretrain.schedule.progress import Progress
from pretrain.schedule.run_schedule import RunSchedule

if TYPE_CHECKING:
    from pretrain.data.run_data import RunData


@dataclass(frozen=True)
class Plan:
    """A checked run.

    Attributes:
        config: with `model.vocab_size` filled in from the data.
        launch: where this process stands among the ranks.
        layout: what each rank does.
        data: the opened corpora.
    """

    config: RunConfig
    launch: Launch
    layout: Layout
    data: RunData


def check(config: RunConfig) -> Plan:
    """Check `config` against the ranks, the corpora and the machine.

    Raises:
        UserError: the first thing that will not work, with what would.
    """
    launch = discover()
    layout = resolve_layout(config, launch.world_size)
    RunSchedule(config.training, config.optimizer, config.model.seq_length, Progress())
    _check_device(config.training)

    from pretrain.data.run_data import RunData

    data = RunData.open(config)
    for role in (*config.objective.roles(), *config.model.roles):
        data.tokens.role(role)
    config = config.model_copy(update={"model": _with_vocabulary(config.model, data)})
    # Last, since it makes the directory.
    if launch.rank == 0:
        _check_output(config.output_dir, config.monitor)
        _check_space(config.output_dir / "checkpoints", config.model, config.optimizer)
    return Plan(config=config, launch=launch, layout=layout, data=data)


def _check_device(training: TrainingConfig) -> None:
    if training.precision != "fp16":
        return
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            "fp16 needs a GPU and this machine shows none",
            where="training.precision = 'fp16'",
            expected="bf16 or fp32 on a CPU",
            nearest="training.precision=bf16",
        )


def _check_output(output_dir: Path, monitor: MonitorConfig) -> None:
    from pretrain.checkpoint.directory import check_writable
    from pretrain.monitor.tensorboard_server import check_port_free

    check_writable(output_dir / "checkpoints")
    if monitor.serve_tensorboard:
        check_port_free(monitor.serve_tensorboard)


def _check_space(root: Path, model: ModelConfig, optimizer: OptimizerConfig) -> None:
    from pretrain.checkpoint.directory import check_free_space, estimated_bytes, left_over_bytes

    # What a dead attempt left is removed before the first save.
    needed = estimated_bytes(model.num_parameters(), len(optimizer.states))
    check_free_space(root, needed, soon_free_bytes=left_over_bytes(root))


def _with_vocabulary(model: ModelConfig, data: RunData) -> ModelConfig:
    wanted = model.vocab_size
    if wanted is not None and wanted < data.vocab_size:
        raise ConfigError(
            f"the corpus has {data.vocab_size} token ids, more than the model's {wanted}",
            where=f"model.vocab_size = {wanted}",
            expected=f"at least {data.vocab_size}, or null to take it from the corpus",
        )
    return model.model_copy(update={"vocab_size": wanted or data.vocab_size})
