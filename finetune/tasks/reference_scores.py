"""Log-probabilities of completions by the model that a training starts from: computed once, kept in a file.

Shape letters: B completions of a batch, R completions in all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xxhash

from configs.errors import DataError
from data_prep.storage.durable import writing
from data_prep.storage.locks import locked
from data_prep.storage.publishing import staged_file
from finetune.batches import by_length
from finetune.tasks.sequence_pairs import SequencePairs, target_logits, target_losses

if TYPE_CHECKING:
    from finetune.pretrained import PretrainedModel

_AT_ONCE = 16


def reference_scores(pretrained: PretrainedModel, rows: SequencePairs, folder: Path) -> npt.NDArray[np.float32]:
    """The log-probability of each completion by the pretrained model, float32 [R]; from the file if there is one.

    One process computes them, in float32, and others that ask at the same time wait for its file.

    Args:
        pretrained: the reference.
        rows: prompts and completions.
        folder: of the files; made if needed.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / f"{scores_key(pretrained, rows)}.npy"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock"), wait=True):
        if not path.is_file():
            found = _compute(pretrained, rows)
            with staged_file(path) as temporary, temporary.open("wb") as file:
                np.save(file, found)
    try:
        scores: npt.NDArray[np.float32] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read ({error})", where=path, expected="log-probabilities; delete it") from None
    if scores.shape != (len(rows.sources),) or scores.dtype != np.float32 or not np.isfinite(scores).all():
        raise DataError("does not hold one log-probability for each completion", where=path, expected="delete it")
    return scores


def scores_key(pretrained: PretrainedModel, rows: SequencePairs) -> str:
    """A hash of all that the log-probabilities depend on: network, weights, the tokens of prompts and targets."""
    import torch

    digest = xxhash.xxh3_128()
    digest.update(json.dumps(pretrained.hf_config, sort_keys=True, default=str).encode())
    for name in sorted(pretrained.tensors):
        tensor = pretrained.tensors[name].detach().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(json.dumps([rows.start, rows.sources, rows.targets]).encode())
    return digest.hexdigest()


def _compute(pretrained: PretrainedModel, rows: SequencePairs) -> npt.NDArray[np.float32]:
    import torch

    from finetune.language_networks import language_network

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network: Any = language_network(pretrained).to(device)
    found = np.zeros(len(rows.sources), dtype=np.float32)
    with torch.no_grad():
        for numbers in by_length(rows.lengths, _AT_ONCE):
            losses_B = target_losses(*target_logits(network, rows, numbers, device))
            found[numbers] = -losses_B.cpu().numpy()
    return found
