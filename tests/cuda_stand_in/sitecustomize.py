"""Makes a machine without a GPU look like one with a GPU, for every Python process that has this folder on its path.

`torch.cuda` says that a device is there, and what is placed on `cuda` comes to lie on torch's `meta` device: it has a
shape and a type and holds no numbers. So whatever mixes `cuda` and the CPU fails here as it would on a GPU, and what
is computed on the CPU is computed. As on a GPU, an empty CUDA_VISIBLE_DEVICES hides the device.

    PYTHONPATH=tests/cuda_stand_in python -m finetune export ...
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any


class _AfterTorch(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports torch as it is, and puts the device there then."""

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> Any:
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        self.spec = importlib.util.find_spec("torch")
        if self.spec is None:
            return None
        return importlib.machinery.ModuleSpec(name, self, origin=self.spec.origin, is_package=True, loader_state=None)

    def create_module(self, spec: Any) -> ModuleType:
        return importlib.util.module_from_spec(self.spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__, module.__loader__ = self.spec, self.spec.loader
        self.spec.loader.exec_module(module)
        from visible_gpu import stand_in

        stand_in(module)


sys.meta_path.insert(0, _AfterTorch())
