"""An adapter that pretraining's engine trained, in peft's format, beside the export of the model with it merged.

```
OUTPUT/adapter/adapter_config.json, adapter_model.safetensors   as peft reads them
OUTPUT/base/                                                    the model without it, where no other directory is it
```

A layer of ours may be several of transformers' (queries, keys and values; gate and up): each of these gets the one
first factor, and its rows of the second.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from configs.errors import CheckpointError
from finetune.huggingface.weight_files import write_weights
from finetune.methods.adapter import quiet
from finetune.pretrained import ADAPTER_DIR
from pretrain.config.method import ADAPTER, FIRST_FACTOR, SECOND_FACTOR
from pretrain.data.batch import MicroBatch
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import counterpart_of
from pretrain.models.huggingface.logit_check import TOLERANCE, difference_between
from pretrain.models.huggingface.transformers_model import load_pretrained, model_from_tensors, save_weights
from pretrain.models.huggingface.weights import to_hf
from pretrain.starting.adapted_model import AdaptedModel
from pretrain.starting.huggingface_source import HuggingFaceSource

if TYPE_CHECKING:
    import torch

    from pretrain.models.huggingface.logit_check import Reference

BASE_DIR = "base"
_FILE = "adapter_model.safetensors"
_LEAST_CHANGE = 1e-7


def unmerged(adapted: AdaptedModel) -> Reference:
    """Our model with the adapter beside its layers, as it was trained; does not look at merged tensors."""
    from pretrain.engine.single import reference_outputs

    tensors = ChainMap(_plain(adapted.base), _plain(adapted.adapter))
    return lambda model, merged, batch: reference_outputs(model, tensors, batch, adapted.method)


def _plain(tensors: Mapping[str, torch.Tensor]) -> MutableMapping[str, torch.Tensor]:
    return cast("MutableMapping[str, torch.Tensor]", tensors)


def peft_factors(adapted: AdaptedModel, ids: RoleIds) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, bool]]:
    """The layers of transformers that have an adapter.

    Yields:
        its module; its first factor [R, inputs] and its second [outputs, R]; whether it keeps its matrix transposed.
    """
    import torch

    model = adapted.merged.model
    for rule in counterpart_of(model).rules(model, ids):
        layer = f"{rule.ours.removesuffix('.weight')}.{ADAPTER}"
        if f"{layer}.{FIRST_FACTOR}" not in adapted.adapter:
            continue
        first, second = (adapted.adapter[f"{layer}.{factor}"] for factor in (FIRST_FACTOR, SECOND_FACTOR))
        # Their matrix is transposed where a column of ours becomes a row.
        probes = rule.split(torch.empty(second.shape[0], 1, device="meta"))
        for theirs, part, probe in zip(rule.theirs, rule.split(second), probes, strict=True):
            transposed = probe.shape[0] == 1
            rows = part.t() if transposed else part
            yield theirs.removesuffix(".weight"), first, rows.contiguous(), transposed


def write_adapter(
    adapted: AdaptedModel,
    folder: Path,
    ids: RoleIds,
    *,
    merged: Any,
    fields: dict[str, Any],
    rows: MicroBatch,
    output: Path,
    write_base: Callable[[Path], None],
    max_shard_gb: float,
) -> dict[str, Any]:
    """Write the adapter into an export, and compare peft's model with the merged one.

    Args:
        adapted: the adapter and its model.
        folder: the export, which has the merged model.
        ids: of the tokenizer.
        merged: the exported model, loaded.
        fields: of its config.
        rows: what both read.
        output: where the export will lie.
        write_base: writes the configs of a model of the same architecture into a directory.
        max_shard_gb: see `ExportConfig`.

    Returns:
        for the record: the difference of the logits, and that of the model without an adapter.

    Raises:
        CheckpointError: peft's model says other things than the merged one, or the adapter changes nothing.
    """
    import peft

    found = list(peft_factors(adapted, ids))
    base = adapted.source.path.absolute()
    if adapted.has_new_ids or not isinstance(adapted.source, HuggingFaceSource):
        base = output.absolute() / BASE_DIR
        (folder / BASE_DIR).mkdir()
        write_base(folder / BASE_DIR)
        write_weights(to_hf(adapted.base, adapted.merged.model, ids), folder / BASE_DIR, max_shard_gb)
    method, target = adapted.method, folder / ADAPTER_DIR
    target.mkdir()
    peft.LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base),
        inference_mode=True,
        r=method.r,
        lora_alpha=int(method.alpha) if method.alpha.is_integer() else method.alpha,  # type: ignore[arg-type]
        lora_dropout=method.dropout,
        use_rslora=method.rslora,
        # Two words of a name: GPT-2 calls a layer of the attention as one of the MLP.
        target_modules=sorted({".".join(module.split(".")[-2:]) for module, *_ in found}),
        fan_in_fan_out=any(transposed for *_, transposed in found),
    ).save_pretrained(target)
    tensors = {}
    for module, first, second, _ in found:
        # A copy each: one tensor under two names cannot be written.
        tensors[f"base_model.model.{module}.{FIRST_FACTOR}.weight"] = first.clone()
        tensors[f"base_model.model.{module}.{SECOND_FACTOR}.weight"] = second
    save_weights(tensors, target / _FILE)
    return _check(adapted, folder, ids, merged=merged, fields=fields, rows=rows) | {"base": str(base)}


def _check(
    adapted: AdaptedModel, folder: Path, ids: RoleIds, *, merged: Any, fields: dict[str, Any], rows: MicroBatch
) -> dict[str, Any]:
    import peft

    if (folder / BASE_DIR).is_dir():
        base: Any = load_pretrained(folder / BASE_DIR, "float32")
    else:
        base = model_from_tensors(fields, dict(to_hf(adapted.base, adapted.merged.model, ids)))
    changed = difference_between(base, merged, rows)
    with quiet():
        model = peft.PeftModel.from_pretrained(base, folder / ADAPTER_DIR).eval()
    difference = difference_between(model, merged, rows)
    if not difference <= TOLERANCE:
        raise CheckpointError(
            f"logits of the adapter in peft differ from those of the merged model by {difference:.1e}",
            where=adapted.merged.path,
            expected=f"at most {TOLERANCE:g}; this is a fault of the export: please report it",
        )
    if not changed > _LEAST_CHANGE:
        raise CheckpointError(
            "its adapter changes nothing", where=adapted.merged.path, expected="a longer training, or a larger rate"
        )
    return {"peft_difference": difference, "base_difference": changed, "adapter": ADAPTER_DIR}
