"""A pretrained body with a new head: transformers' class for a task, filled, saved with its tokenizer, read back."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from data_prep.tokenizer import load_tokenizer
from finetune.huggingface import tokenizer as hf_tokenizer
from finetune.huggingface.plain_call import PlainCall, put_around
from finetune.huggingface.tokenizer import OWN_FOLDER
from finetune.huggingface.tokenizer_check import check_plain_call, check_same_ids
from finetune.network_building import fill_network, network_without_memory
from finetune.pretrained import PretrainedModel
from finetune.text_codec import OwnCodec, TransformersCodec
from finetune.text_template import TextTemplate
from pretrain.models.huggingface.own_classes import is_own_class, own_class_file, register_own_classes
from pretrain.models.huggingface.weights import HuggingFaceWeights

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from pretrain.engine.task_partitioning import Partitioner

_OF_ANOTHER_HEAD = ("architectures", "id2label", "label2id", "num_labels", "dtype", "transformers_version")


def head_network(
    auto_class: str, pretrained: PretrainedModel, fields: Mapping[str, Any], *, from_scratch: bool = False
) -> PreTrainedModel:
    """A transformers model in fp32 and evaluation mode: the pretrained body under a new, random head.

    Args:
        auto_class: which head, such as `AutoModelForSequenceClassification`.
        pretrained: the body. Layers of its head that the new one has under the same name (ModernBERT's) are kept.
        fields: of the config, in place of those of the pretrained model.
        from_scratch: whether the body is random, too.

    Raises:
        DataError: transformers has no such head for this architecture, or one that does not take its body.
    """
    import torch
    import transformers

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    kept = {key: value for key, value in pretrained.hf_config.items() if key not in _OF_ANOTHER_HEAD} | dict(fields)
    if is_own_class(kept["model_type"]):
        register_own_classes()
    with quiet_transformers():
        config = transformers.AutoConfig.for_model(**kept)
        try:
            make = partial(getattr(transformers, auto_class).from_config, config)
            model, partitioner = (make(), None) if from_scratch else network_without_memory(make)
        except ValueError:
            head = auto_class.removeprefix("AutoModelFor")
            raise DataError(
                f"transformers has no {head} for {kept['model_type']}", where="model", expected="llama, gpt2, bert, ..."
            ) from None
    model = model.to(dtype=torch.float32)
    if not from_scratch:
        _fill_body(model, pretrained.tensors, partitioner)
    return model.eval()


def _fill_body(model: PreTrainedModel, tensors: Mapping[str, torch.Tensor], partitioner: Partitioner | None) -> None:
    body, pooler = f"{model.base_model_prefix}.", f"{model.base_model_prefix}.pooler."
    own = model.state_dict()
    tensors = _with_body_called(body, tensors)
    fitting = {name for name in tensors if name in own and tuple(own[name].shape) == _shape(tensors, name)}
    # A pooler is kept where both have one; else it is new, or left behind.
    missing = {name for name in own if name.startswith(body) and not name.startswith(pooler)} - fitting
    left = {name for name in tensors if name.startswith(body) and not name.startswith(pooler)} - fitting
    if missing or left or not fitting:
        lacks, spare = ", ".join(sorted(missing)[:3]) or "nothing", ", ".join(sorted(left)[:3]) or "nothing"
        raise DataError(
            f"its weights do not fit {type(model).__name__}: that lacks {lacks}, and has no place for {spare}",
            where="model",
            expected="a language model whose body the classes of its family share",
        )
    fill_network(model, tensors, fitting, partitioner)


def _shape(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...]:
    if isinstance(tensors, _Renamed):
        return _shape(tensors.tensors, tensors.names[name])
    return tensors.shape(name) if isinstance(tensors, HuggingFaceWeights) else tuple(tensors[name].shape)


class _Renamed(Mapping[str, "torch.Tensor"]):
    """Tensors under other names, each read when it is asked for.

    Args:
        tensors: by their own names.
        names: the other name -> its own.
    """

    def __init__(self, tensors: Mapping[str, torch.Tensor], names: Mapping[str, str]) -> None:
        self.tensors, self.names = tensors, names

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[self.names[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def _with_body_called(body: str, tensors: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The weights with `body` in front of those of the body, which some heads call otherwise (Llama's for answers)."""
    if any(name.startswith(body) for name in tensors):
        return tensors
    fronts = Counter(f"{name.partition('.')[0]}." for name in tensors)
    front = max(fronts, key=lambda name: fronts[name])
    return _Renamed(
        tensors, {body + name.removeprefix(front) if name.startswith(front) else name: name for name in tensors}
    )


def save_network(folder: Path, model: PreTrainedModel, weights: Mapping[str, torch.Tensor]) -> None:
    """Write config and safetensors of a model with these weights in place of its own."""
    from pretrain.models.huggingface.transformers_model import add_older_spellings, quiet_transformers, save_weights

    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in weights.values()}
    model.config.architectures = [type(model).__name__]
    model.config.dtype = dtypes.pop()
    with quiet_transformers():
        model.config.save_pretrained(folder)
    add_older_spellings(folder)
    if is_own_class(model.config.model_type):
        shutil.copyfile(own_class_file(), folder / own_class_file().name)
    save_weights(weights, folder / "model.safetensors")


def load_network(auto_class: str, folder: Path) -> PreTrainedModel:
    """What `save_network` wrote, in fp32 and evaluation mode.

    Raises:
        DataError: damaged, missing or left-over weights.
    """
    import transformers

    from pretrain.models.huggingface.transformers_model import load_config, load_weights

    load_config(folder)  # lets transformers know the class, where it is ours
    return load_weights(getattr(transformers, auto_class), folder, "float32")


def save_tokenizer(folder: Path, pretrained: PretrainedModel, template: TextTemplate) -> None:
    """Give a fine-tuned model's directory its tokenizer: ours, and transformers' where there is an exact counterpart.

    Transformers' begins, closes and pads texts as `template` says, and knows where to cut them, without being told.
    What looks like a special token in a text is text to it, as it was in fine-tuning.
    """
    codec = pretrained.codec
    call = PlainCall(template.before, template.after, pretrained.has_token_types, keeps_spellings=True)
    if not isinstance(codec, OwnCodec):
        assert isinstance(codec, TransformersCodec)
        _save_theirs(folder, codec.tokenizer, template, call, pretrained.hf_config.get("model_type"))
        if (pretrained.path / OWN_FOLDER).is_dir():
            load_tokenizer(pretrained.path / OWN_FOLDER).copy_to(folder / OWN_FOLDER)
        return
    codec.tokenizer.copy_to(folder / OWN_FOLDER)
    try:
        begin = pretrained.hf_config.get("bos_token_id")
        known = isinstance(begin, int) and 0 <= begin < codec.vocab_size  # configs have defaults of other vocabularies
        ids = hf_tokenizer.role_ids(codec.tokenizer, begin if known else None)
        hf_tokenizer.save(codec.tokenizer, folder, template.max_tokens, ids=ids, call=call, pad=template.pad,
                          model_type=pretrained.hf_config.get("model_type"))  # fmt: skip
        check_same_ids(codec.tokenizer, folder)
        check_plain_call(codec.tokenizer, folder, call)
    except DataError:
        # Our own tokenizer is there in any case; transformers' must not be there if it reads other ids.
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).unlink(missing_ok=True)


def _save_theirs(folder: Path, tokenizer: Any, template: TextTemplate, call: PlainCall, model_type: str | None) -> None:
    tokenizer.model_max_length = template.max_tokens
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(template.pad)
    tokenizer.split_special_tokens = call.keeps_spellings
    tokenizer.model_input_names = call.model_inputs
    ids = [number for number in (template.before, template.after) if number is not None]
    plain = list(tokenizer("")["input_ids"])
    has_own_template = plain != ids and hasattr(tokenizer, "backend_tokenizer")
    if has_own_template:
        spelled = [(number, tokenizer.convert_ids_to_tokens(number)) if number is not None else None
                   for number in (template.before, template.after)]  # fmt: skip
        put_around(tokenizer.backend_tokenizer, *spelled)
    tokenizer.save_pretrained(folder)
    hf_tokenizer.make_readable_by_version_4(folder, has_own_template=has_own_template, model_type=model_type)
