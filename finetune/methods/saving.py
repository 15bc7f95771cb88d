"""A trained network as files, whatever the method: a whole model, and the adapter beside it where there is one.

```
OUTPUT/model.safetensors, config.json, ...   the whole model; of a method that cannot be merged, none
OUTPUT/adapter/                              the adapter in peft's format; without a whole model, with the tokenizer
```
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.methods.chosen import adapter_of
from finetune.pretrained import ADAPTER_DIR

if TYPE_CHECKING:
    import torch

    from finetune.pretrained import PretrainedModel
    from finetune.task_fit import PreparedTask
    from finetune.tasks.base import FinetuneTask
    from finetune.tasks.base_config import TaskConfig


def save_trained(folder: Path, prepared: PreparedTask, weights: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Write what was trained.

    Args:
        folder: an empty directory.
        prepared: the task.
        weights: by their names in the network that was trained.

    Returns:
        what the record says of the method.

    Raises:
        UserError: the merged model says other things than the adapted one.
    """
    from finetune.methods.adapter import count_weights
    from finetune.methods.merging import merge

    task, pretrained, adapter = prepared.task, prepared.pretrained, adapter_of(prepared.config)
    if adapter is None:
        task.save(folder, task.network(pretrained, from_scratch=True), weights, pretrained)
        return {"name": prepared.config.method.name}
    model = adapter.put_in(task.network(pretrained))
    trained, total = count_weights(model)
    said = {"name": adapter.config.name, "trained_parameters": trained, "total_parameters": total}
    adapter.save(folder / ADAPTER_DIR, model, weights, pretrained.path)
    untrained = task.network(pretrained)
    own = {name: parameter.detach() for name, parameter in untrained.named_parameters()}
    if not adapter.config.merges:
        task.save(folder / ADAPTER_DIR, untrained, own, pretrained)
        (folder / ADAPTER_DIR / "model.safetensors").unlink()
        return said
    merged, check = merge(model, untrained, task, prepared.encoded["validation"])
    task.save(folder, untrained, {name: merged[name] for name in own}, pretrained)
    return said | asdict(check)


def load_trained(config: TaskConfig, task: FinetuneTask, pretrained: PretrainedModel, folder: Path) -> Any:
    """The model that `save_trained` wrote, in fp32; read as a user reads it.

    Args:
        config: of the task.
        task: that it learned.
        pretrained: what it was trained from.
        folder: where it is.
    """
    adapter = adapter_of(config)
    if adapter is None or adapter.config.merges:
        return task.load(folder)
    return adapter.read_back(task.network(pretrained), folder / ADAPTER_DIR)
