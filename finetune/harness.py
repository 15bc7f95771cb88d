"""The lm-evaluation-harness on a folder of tasks: the model is handed over in memory, nothing is fetched."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError, DataError, nearest
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.plain_call import PlainCall
from finetune.text_codec import OwnCodec, TransformersCodec

if TYPE_CHECKING:
    from finetune.causal_model import CausalModel

_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")


def check_harness(folder: Path) -> None:
    """Refuse a folder without tasks, and an environment without the harness.

    Raises:
        ConfigError: says what is missing.
    """
    if find_spec("lm_eval") is None:
        raise ConfigError(
            "needs lm-eval, which is not installed", where="--harness", expected="pip install '.[harness]'"
        )
    if not any(folder.rglob("*.yaml")):
        raise ConfigError(f"{folder} holds no task", where="--harness", expected="a folder with tasks as .yaml files")


def run_harness(
    causal: CausalModel, folder: Path, tasks: Sequence[str], batch_size: int, limit: int | None = None
) -> dict[str, dict[str, float]]:
    """Figures of tasks, by task and name of the figure.

    Args:
        causal: the model, on its device.
        folder: of tasks as .yaml files; those that come with the harness are not looked at.
        tasks: names of tasks in it.
        batch_size: requests at a time.
        limit: documents of a task; None: all.

    Raises:
        UserError: no such task, or one that cannot run here.
    """
    with _offline(), tempfile.TemporaryDirectory(prefix="bessemer-tokenizer-") as place:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=str(folder), include_defaults=False)
        for task in tasks:
            if task not in manager.all_tasks:
                known = sorted(manager.all_tasks)
                raise ConfigError(
                    f"there is no task {task!r} in {folder}",
                    where="--harness-task",
                    expected=f"one of {', '.join(known[:20])}",
                    nearest=nearest(task, known),
                )
        tokenizer = _tokenizer(causal, Path(place))
        model = HFLM(pretrained=causal.network, tokenizer=tokenizer, batch_size=batch_size, max_length=causal.context)
        found = simple_evaluate(model, tasks=list(tasks), task_manager=manager, limit=limit, bootstrap_iters=0)
    results = found["results"] if found is not None else {}
    return {task: {name: value for name, value in figures.items() if isinstance(value, float)}
            for task, figures in results.items()}  # fmt: skip


def _tokenizer(causal: CausalModel, place: Path) -> Any:
    """Transformers' tokenizer of a model; of a checkpoint, made of its own."""
    from transformers import AutoTokenizer

    codec = causal.codec
    if isinstance(codec, TransformersCodec):
        return codec.tokenizer
    assert isinstance(codec, OwnCodec)
    ids = hf_tokenizer.role_ids(codec.tokenizer, codec.document_start)
    try:
        hf_tokenizer.save(codec.tokenizer, place, causal.context or 2**20, ids=ids, call=PlainCall(codec.begin_of_text))
    except DataError as error:
        raise DataError(
            f"its tokenizer has no counterpart in transformers ({error.problem})", where="--model"
        ) from None
    return AutoTokenizer.from_pretrained(place, local_files_only=True)


@contextmanager
def _offline() -> Iterator[None]:
    """Nothing is fetched inside: neither the harness nor what it loads data with asks a server."""
    before = {name: os.environ.get(name) for name in _OFFLINE}
    os.environ.update(dict.fromkeys(_OFFLINE, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
