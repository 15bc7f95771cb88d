"""`python -m pretrain.coordinate_check`: do activations move alike at every width? (Yang et al. 2022, appendix D.1)

A few steps of a recipe at several widths, in one process, on the same samples. With a base width (`width_scaling`) what
a step changes of an activation stays as large; without, it grows with the width, and with it the best rate falls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from configs.errors import ConfigError, guarded
from configs.load import build_config, find_recipes, load_config
from configs.paths import output_path
from pretrain.config import RunConfig
from pretrain.monitor.coordinates import Coordinates
from pretrain.parallel.accelerator import prepare_environment

if TYPE_CHECKING:
    import torch

    from pretrain.data.batch import MicroBatch
    from pretrain.data.token_facts import TokenFacts
    from pretrain.models.family import Output

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Grow = Literal["heads", "head_size"]
PROPORTIONAL: dict[Grow, tuple[str, ...]] = {
    "heads": ("ffn_hidden_size", "num_attention_heads", "num_query_groups"),
    "head_size": ("ffn_hidden_size", "attention_head_size", "query_scale"),
}
"""Keys of the model that grow with hidden_size, where they are not null."""


@app.command(context_settings={"help_option_names": ["-h", "--help"]})
def main(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Overrides of the recipe, such as model.base_hidden_size=64."),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", "-c", help="A recipe's name or a YAML file, as pretrain/main.py takes it."),
    ] = None,
    widths: Annotated[
        str, typer.Option(help="Values of model.hidden_size; all inner widths grow alike.")
    ] = "64,128,256",
    steps: Annotated[int, typer.Option(min=1, help="Steps of training, at optimizer.lr.")] = 4,
    grow: Annotated[Grow, typer.Option(help="Whether wider models have more heads, or wider ones.")] = "heads",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="PATH", parser=output_path, help="A picture (PNG).")
    ] = None,
) -> None:
    """Train a few steps at several widths; print how large activations are and how far they move, by kind of layer."""
    run = load_config(RunConfig, find_recipes(config or ["gpt-tiny"], "pretrain"), overrides or [])
    if run.start_from is not None:
        raise ConfigError("is set, and weights have one width", where="start_from", expected="null")
    if run.checkpoint.branch_from is not None:
        raise ConfigError("is set, and weights have one width", where="checkpoint.branch_from", expected="null")
    configs = [at_width(run, width, grow) for width in _widths(widths)]
    prepare_environment(run.training.device, configs[0].parallel)
    found = check(configs, steps)
    print(found.table())
    if output is not None:
        found.plot(output)


def _widths(text: str) -> list[int]:
    try:
        found = sorted({int(word) for word in text.split(",")})
    except ValueError:
        found = []
    if len(found) < 2 or found[0] < 1:
        raise ConfigError(f"is {text!r}", where="--widths", expected="two widths or more, such as 64,128,256")
    return found


def at_width(run: RunConfig, width: int, grow: Grow = "heads") -> RunConfig:
    """A run whose model has another width, all of its inner widths in proportion, and which has one process.

    Args:
        run: gives the proportions.
        width: its hidden_size.
        grow: whether there are more heads or wider ones.

    Raises:
        ConfigError: an inner width would not be whole, or the model cannot have this width.
    """
    raw = run.model_dump(mode="json")
    model: dict[str, Any] = raw["model"]
    own = model["hidden_size"]
    for key in PROPORTIONAL[grow]:
        value = model.get(key)
        if value is None:
            continue
        if value * width % own:
            raise ConfigError(
                f"{width} has no whole model.{key}, which is {value} at hidden_size {own}",
                where="--widths",
                expected=f"multiples of {own // math.gcd(own, value)}",
            )
        model[key] = value * width // own
    model["hidden_size"] = width
    # The sums of gradients are those of any layout.
    parallel = {"zero_stage": 1}
    return build_config(RunConfig, raw | {"model": model, "parallel": parallel}, Path(f"--widths={width}"))


def check(configs: Sequence[RunConfig], steps: int) -> Coordinates:
    """Train each of `configs`, which differ in the model's width, on their data.

    Raises:
        UserError: whatever does not fit: the corpora, the device, more than one process.
    """
    from pretrain import preflight
    from pretrain.data.loader import BatchLoader
    from pretrain.engine import topology
    from pretrain.objectives.objective import make_objective

    plans = [preflight.check_model_and_data(config, trains=True) for config in configs]
    launch, layout = plans[0].launch, plans[0].layout
    if launch.world_size > 1:
        raise ConfigError(f"has {launch.world_size} processes", where="the coordinate check", expected="one")
    place = topology.start(launch, layout)
    try:
        data, run = plans[0].data, plans[0].config
        loader = BatchLoader(
            data.train, make_objective(run, data.tokens, is_evaluation=False), run.training.micro_batch_size
        )
        size = run.training.global_batch_size
        batches = [loader.global_batch(step * size, size) for step in range(steps)]
        return measure([plan.config for plan in plans], batches, data.tokens, place)
    finally:
        topology.stop()


class _NothingSummed:
    """Reads a batch of training as it is: what an objective evaluates may be another one, such as two rows of each."""

    evaluation_names: tuple[str, ...] = ("nothing",)

    def evaluation_sums(self, output: Output, batch: MicroBatch) -> dict[str, torch.Tensor]:
        """A zero."""
        return {"nothing": output.logits_SBV.new_zeros(())}


def measure(
    configs: Sequence[RunConfig], batches: Sequence[list[MicroBatch]], tokens: TokenFacts, place: Any
) -> Coordinates:
    """Train each of `configs` on `batches`, a step each; the first micro-batch is what is looked at after each step.

    Args:
        configs: differ in the model's width.
        batches: micro-batches of each step.
        tokens: what the token ids are.
        place: where this process stands (`topology.start`), alone.
    """
    from pretrain.engine.activation_sizes import ActivationSizes
    from pretrain.engine.engine import TrainEngine
    from pretrain.objectives.objective import make_objective

    sizes: dict[int, list[dict[str, float]]] = {}
    changes: dict[int, list[dict[str, float]]] = {}
    for config in configs:
        engine = TrainEngine(config, place, make_objective(config, tokens, is_evaluation=False))
        activations = ActivationSizes(engine.stage)
        width = config.model.hidden_size
        sizes[width], changes[width] = [], []
        for step in range(len(batches) + 1):
            if step:
                engine.train_batch(batches[step - 1], step=step - 1, learning_rate=config.optimizer.lr)
            with activations.recording():
                engine.evaluate([batches[0][0]], _NothingSummed())
            sizes[width].append(activations.sizes())
            if step:
                changes[width].append(activations.changes())
    return Coordinates(sizes, changes)


if __name__ == "__main__":
    guarded(app)
