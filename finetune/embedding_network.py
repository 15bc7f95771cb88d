"""A pretrained body without a head, and without the pooler that some classes put over the first token."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from finetune.pretrained import PretrainedModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def body_network(pretrained: PretrainedModel, *, from_scratch: bool = False) -> PreTrainedModel:
    """Transformers' `AutoModel` in fp32 on the CPU and evaluation mode, filled with the pretrained weights.

    Args:
        pretrained: the model.
        from_scratch: whether its weights are random.

    Raises:
        DataError: the weights do not fit the class, or the model has two stacks.
    """
    if pretrained.is_encoder_decoder:
        raise DataError("is an encoder-decoder", where=pretrained.path, expected="an encoder, or a decoder")
    model = _bare(pretrained.hf_config)
    if from_scratch:
        return model.eval()
    prefix = f"{model.base_model_prefix}."
    wanted = set(model.state_dict())
    fitting = {
        name.removeprefix(prefix): tensor
        for name, tensor in pretrained.tensors.items()
        if name.removeprefix(prefix) in wanted
    }
    missing = sorted(wanted - set(fitting))
    if missing:
        raise DataError(
            f"its weights do not fit {type(model).__name__}: {', '.join(missing[:3])} are missing",
            where=pretrained.path,
            expected="a language model whose body the classes of its family share",
        )
    model.load_state_dict(fitting)
    return model.eval()


def load_body(folder: Path) -> PreTrainedModel:
    """What was saved of `body_network`, in fp32 and evaluation mode.

    Raises:
        DataError: the config or the weights cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from pretrain.models.huggingface.transformers_model import load_config

    model = _bare(load_config(folder))
    try:
        model.load_state_dict(load_file(folder / "model.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"the weights cannot be read ({str(error).splitlines()[0]})", where=folder) from None
    return model.eval()


def _bare(fields: Any) -> PreTrainedModel:
    import torch
    import transformers

    from pretrain.models.huggingface.transformers_model import quiet_transformers

    kept = {key: value for key, value in dict(fields).items() if key not in ("architectures", "dtype")}
    with quiet_transformers():
        model: Any = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(**kept))
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # no part in the mean: it would be saved untrained
    made: PreTrainedModel = model.to(torch.float32)
    return made
