"""The vectors of the token ids, compared one by one: the sequences of a logit check read only some of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from configs.errors import CheckpointError
from pretrain.config.model import ModelConfig
from pretrain.models.huggingface.config_fields import RoleIds
from pretrain.models.huggingface.family import counterpart_of
from pretrain.models.huggingface.width_folding import folded

if TYPE_CHECKING:
    import torch


def compare_token_rows(model: ModelConfig, tensors: Mapping[str, torch.Tensor], theirs: Any, ids: RoleIds) -> int:
    """Compare every row that the transformers model looks token ids up in with ours, bit for bit.

    Args:
        model: our config.
        tensors: our weights by global name, as a checkpoint has them: nothing that maps them is asked, only what
            multiplies the table of a model with a base width.
        theirs: the transformers model.
        ids: of the tokenizer.

    Returns:
        how many rows were compared; 0: no one tensor of ours is that table.

    Raises:
        CheckpointError: names the first id whose row differs.
    """
    table = theirs.get_input_embeddings().weight
    names = {name for name, weight in theirs.named_parameters(remove_duplicate=False) if weight is table}
    rule = next((rule for rule in counterpart_of(model).rules(model, ids) if names & set(rule.theirs)), None)
    if rule is None or len(rule.theirs) > 1 or model.vocab_size is None:
        return 0
    ours = folded(rule.ours, tensors[rule.ours], model)[: model.vocab_size]
    if ours.shape != table.shape:
        return 0
    # Not `!=`: what is not a number equals itself.
    same_N = ((ours == table) | (ours.isnan() & table.isnan())).all(dim=1)
    if not bool(same_N.all()):
        row = int((~same_N).nonzero()[0, 0])
        raise CheckpointError(
            f"the exported model has another vector for the token id {row} than {rule.ours}; nothing was written",
            where=sorted(names)[0],
            expected="equal vectors; this is a fault of the export: please report it",
        )
    return len(ours)
