"""The losses of labels that are tokens: their nats, and what an objective adds to them when it trains.

Shape letters: B rows of the micro-batch, S positions in each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pretrain.objectives.token_loss_config import TokenLossConfig

if TYPE_CHECKING:
    from pretrain.models.family import Output

Z, SMOOTHING = "z", "smoothing"


class TokenLoss:
    """Named sums over the labels that count: plain nats, and where asked for `smoothing` and `z`.

    With label smoothing e the label is the distribution (1 - e) one-hot + e uniform (Szegedy et al. 2016, section 7),
    whose cross entropy is (1 - e) nats + e `smoothing`: the mean nats over all ids of the tokenizer. `z` is log(Z)^2
    (Chowdhery et al. 2022, section 5).

    Args:
        name: of the plain nats.
        config: the coefficients.
        num_ids: ids of the tokenizer; the embedding's padding is never a label.

    Attributes:
        coefficients: see `Objective`; only what is trained has a name.
    """

    def __init__(self, name: str, config: TokenLossConfig, num_ids: int) -> None:
        self._name, self._num_ids = name, num_ids
        self.coefficients = {name: 1.0 - config.label_smoothing}
        if config.label_smoothing:
            self.coefficients[SMOOTHING] = config.label_smoothing
        if config.z_loss:
            self.coefficients[Z] = config.z_loss

    def weights(self, loss_mask_BS: torch.Tensor) -> dict[str, torch.Tensor]:
        """How many labels count, by the name of each loss."""
        return dict.fromkeys(self.coefficients, loss_mask_BS.sum())

    def losses(self, output: Output, labels_BS: torch.Tensor, loss_mask_BS: torch.Tensor) -> dict[str, torch.Tensor]:
        """The sum of each loss, a scalar each. The logits of `output` are not to be asked for afterwards."""
        found: dict[str, torch.Tensor] = {}
        if len(self.coefficients) > 1:
            # Before the nats, which are computed in place of the logits.
            log_z_BS = output.log_z()
            if SMOOTHING in self.coefficients:
                found[SMOOTHING] = ((log_z_BS - output.mean_logit(self._num_ids)) * loss_mask_BS).sum()
            if Z in self.coefficients:
                found[Z] = (log_z_BS.square() * loss_mask_BS).sum()
        return {self._name: (output.nll(labels_BS) * loss_mask_BS).sum(), **found}
