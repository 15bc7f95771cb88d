"""A stand-in for a GPU; `sitecustomize.py` beside it puts it into whole commands."""

from __future__ import annotations

import os
from typing import Any

NAME = "a stand-in for a GPU"


def stand_in(torch: Any) -> None:
    """Put the device there."""
    from torch.overrides import TorchFunctionMode

    meta = torch.device("meta")

    def is_available() -> bool:
        return os.environ.get("CUDA_VISIBLE_DEVICES") != ""

    def moved(value: Any) -> Any:
        is_cuda = isinstance(value, str | torch.device) and str(value).partition(":")[0] == "cuda"
        if is_cuda and not is_available():
            raise RuntimeError("No CUDA GPUs are available")
        return meta if is_cuda else value

    class OnMeta(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = {key: moved(value) for key, value in (kwargs or {}).items()}
            if function is torch.Tensor.to:
                args = tuple(map(moved, args))
            return function(*args, **kwargs)

    cuda = torch.cuda
    cuda.is_available = is_available
    cuda.device_count = lambda: int(is_available())
    cuda.current_device = lambda: moved("cuda")
    cuda.get_device_name = lambda device=None: NAME
    cuda.get_device_capability = lambda device=None: (9, 0)
    cuda.max_memory_allocated = lambda device=None: 0
    for nothing in ("set_device", "synchronize", "empty_cache", "init"):
        setattr(cuda, nothing, lambda *args, **kwargs: None)
    torch.Tensor.cuda = lambda self, *args, **kwargs: self.to(moved("cuda"))
    OnMeta().__enter__()
