"""Runs whose numbers repeat bit for bit on a GPU, where the fastest kernels add in the order of arrival."""

from __future__ import annotations

import os

import torch

_VARIABLES = {
    # cuBLAS: a fixed workspace for each stream; read when its first handle is made.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # NCCL: not the sums in the switches, which Megatron-LM's deterministic mode leaves out, too; read when the first
    # communicator is made.
    "NCCL_ALGO": "^NVLS",
}


def enforce() -> None:
    """Have every kernel of this process add in a fixed order, or raise where torch knows none that does.

    Call it before the process groups are started. Variables that are set already stay as they are. On a CPU the kernels
    do so anyway, with the same number of threads.
    """
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, value)
    torch.use_deterministic_algorithms(True)
    # cuDNN's attention has a backward pass without a fixed order; flash attention's has one that it takes now.
    torch.backends.cuda.enable_cudnn_sdp(False)


def look_up_by_index(module: torch.nn.Module) -> None:
    """Have the embedding tables of `module` that are not tensor parallel read by index.

    The backward pass of an index has a deterministic kernel, that of an embedding adds in the order of arrival;
    megatron-core's own tables know this as `deterministic_mode`.
    """
    for table in module.modules():
        if type(table) is torch.nn.Embedding:
            table.forward = _Lookup(table)  # type: ignore[method-assign,assignment]


class _Lookup:
    """Rows of a table by number."""

    def __init__(self, table: torch.nn.Embedding) -> None:
        self._table = table

    def __call__(self, numbers: torch.Tensor) -> torch.Tensor:
        return self._table.weight[numbers]
