"""A Llama of transformers, trained on: by our engine in several layouts, and by a plain torch loop on the same batches.

    python -m tests.pretrain.starting.continued_runs [--steps 50] [LAYOUT ...]

The plain loop is transformers' own model under torch's AdamW, with the product's batches and learning rates and
nothing else of it. Prints the largest difference of losses and gradient norms for each layout; status 1 above 1e-4.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from configs.load import load_config
from pretrain.config import RunConfig
from pretrain.models.gpt.config import GPTConfig
from pretrain.starting.architecture import complete_model
from tests.distributed import run_ranks
from tests.pretrain.engine.layout_cases import SESSION
from tests.pretrain.starting.source_in_memory import change_config, write_directory
from tests.pretrain.tiny_run import make_corpus, train_records

LIMIT = 1e-4
MODEL = GPTConfig(
    num_layers=2,
    hidden_size=32,
    num_attention_heads=4,
    num_query_groups=2,
    ffn_hidden_size=64,
    seq_length=16,
    vocab_size=300,
    vocab_multiple=4,
    tie_embeddings=False,
)
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "one process": (1, {"zero_stage": 0}),
    "ZeRO-3, data 2": (2, {"zero_stage": 3}),
    "tensor 2": (2, {"tensor_size": 2, "sequence_parallel": "true"}),
    "ZeRO-3, tensor 2, pipeline 2": (4, {"zero_stage": 3, "tensor_size": 2, "pipeline_size": 2}),
}
"""Processes, and what is said of `parallel`."""
Trajectory = list[tuple[float, float]]
"""Loss and gradient norm of each step."""


def write_llama(folder: Path) -> None:
    """A Hugging Face directory of `MODEL`, large enough weights for a loss that moves."""
    generator = torch.Generator().manual_seed(11)
    tensors = {}
    for spec in MODEL.parameters():
        noise = torch.randn(spec.shape, generator=generator)
        tensors[spec.name] = 1 + 0.1 * noise if "norm" in spec.name else 0.08 * noise
    write_directory(folder, MODEL, tensors)
    # Transformers' embedding gives the row of a padding token no gradient, and here that id is one of the text.
    change_config(folder, pad_token_id=None)


def continued_config(output: Path, corpus: Path, source: Path, steps: int, **changes: Any) -> RunConfig:
    """A run that starts from `source`, which says its model; `changes` are overrides, with `__` for the dot."""
    settings: dict[str, Any] = {
        "output": output,
        "start_from": source,
        "start_from_options.check_logits": "false",
        "data.train": corpus,
        "data.split": "[0.9,0.05,0.05]",
        "training.duration": f"{steps} steps",
        "training.micro_batch_size": 2,
        "training.global_batch_size": 8,
        "training.precision": "fp32",
        "optimizer.lr": 0.01,
        "optimizer.warmup": "3 steps",
        "evaluation.interval": "null",
        "checkpoint.interval": "null",
        "monitor.log_interval": 1,
        "monitor.tensorboard": "false",
        "monitor.peak_tflops": 1.0,
    }
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    return load_config(RunConfig, None, [f"{key}={value}" for key, value in settings.items()], complete_model)


def run_here(output: Path, corpus: Path, source: Path, steps: int, changes: dict[str, Any]) -> int:
    """On each rank: the run."""
    from pretrain import main

    torch.set_num_threads(1)
    return int(main.run(continued_config(output, corpus, source, steps, **changes)))


def continued(layout: str, output: Path, corpus: Path, source: Path, steps: int) -> Trajectory:
    """What our engine makes of it."""
    ranks, parallel = LAYOUTS[layout]
    changes = {f"parallel__{key}": value for key, value in parallel.items()}
    arguments = (output, corpus, source, steps, changes)
    statuses = run_ranks(run_here, ranks, *arguments, process_group=False, preload=SESSION, timeout_s=280)
    assert statuses == [0] * ranks
    return [(record["loss"], record["grad_norm"]) for record in train_records(output)]


def plain(corpus: Path, source: Path, steps: int) -> Trajectory:
    """What transformers' model and torch's AdamW make of the same batches."""
    from transformers import LlamaForCausalLM

    from pretrain import preflight
    from pretrain.data.loader import BatchLoader
    from pretrain.objectives.objective import make_objective
    from pretrain.schedule.progress import Progress
    from pretrain.schedule.run_schedule import RunSchedule
    from pretrain.schedule.sample_lengths import SampleLengths

    with tempfile.TemporaryDirectory() as folder:
        config = continued_config(Path(folder), corpus, source, steps)
        found = preflight.check_model_and_data(config)
        objective = make_objective(found.config, found.data.tokens, is_evaluation=False)
        loader = BatchLoader(found.data.train, objective, 8)
        schedule = RunSchedule(config.training, config.optimizer, SampleLengths.constant(16), Progress())
        model = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).train()
        decays = [p for name, p in model.named_parameters() if "norm" not in name]
        others = [p for name, p in model.named_parameters() if "norm" in name]
        groups = [{"params": decays, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
        progress, trajectory = Progress(), []
        for _ in range(steps):
            (batch,) = loader.global_batch(progress.consumed_samples, 8)
            for group in optimizer.param_groups:
                group["lr"] = schedule.learning_rate(progress)
            logits_BSV = model(input_ids=batch.tokens_BS).logits
            nll = torch.nn.functional.cross_entropy(
                logits_BSV.flatten(0, 1), batch.labels_BS.flatten(), reduction="none"
            )
            mask = batch.loss_mask_BS.flatten()
            loss = (nll * mask).sum() / mask.sum()
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            trajectory.append((float(loss), float(norm)))
            progress = progress.after(8, applied=True)
    return trajectory


def largest_difference(one: Trajectory, other: Trajectory) -> float:
    """Of all losses and gradient norms, relative."""
    assert len(one) == len(other)
    pairs = [(a, b) for first, second in zip(one, other) for a, b in zip(first, second)]
    return max(abs(a - b) / abs(b) for a, b in pairs)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT", help=f"of: {'; '.join(LAYOUTS)}")
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="continued-") as directory:
        folder = Path(directory)
        corpus = make_corpus(folder / "text")
        write_llama(folder / "llama")
        expected = plain(corpus, folder / "llama", arguments.steps)
        print(f"{arguments.steps} steps, loss {expected[0][0]:.4f} -> {expected[-1][0]:.4f}")
        for number, layout in enumerate(arguments.layouts or LAYOUTS):
            found = continued(layout, folder / f"run{number}", corpus, folder / "llama", arguments.steps)
            difference = largest_difference(found, expected)
            wrong += difference > LIMIT
            print(f"{layout:30} largest relative difference {difference:.1e}", flush=True)
    return int(wrong > 0)


if __name__ == "__main__":
    # The ranks find `run_here` by its module's name, which is not `__main__` there.
    from tests.pretrain.starting import continued_runs

    sys.exit(continued_runs.main())
