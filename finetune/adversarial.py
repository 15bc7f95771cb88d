"""Adversarial training on the input embeddings: FGM (Miyato et al. 2017) and PGD (Madry et al. 2018).

What is perturbed are the looked-up vectors of each example, not the embedding table: so an example's perturbation
follows from its own gradient, whatever stands beside it, on however many ranks, and no shard of a table is asked for.

Shape letters: B samples of a micro-batch, S tokens, H hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from configs.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from finetune.tasks.base_config import TaskTraining


class InputPerturbation:
    """What is added to the input embeddings of a network.

    Args:
        network: of transformers, or with its `get_input_embeddings`.
        training: which method, how far.

    Raises:
        ConfigError: the network does not say what its input embeddings are.
    """

    def __init__(self, network: Any, training: TaskTraining) -> None:
        find = getattr(network, "get_input_embeddings", None)
        if find is None:
            raise ConfigError(
                f"is {training.adversarial}, and {type(network).__name__} does not say what its input embeddings are",
                where="training.adversarial",
                expected="none",
            )
        self._radius = training.adversarial_radius
        is_fgm = training.adversarial == "fgm"
        self._step_size = self._radius if is_fgm else training.adversarial_step_size
        self._ascents = 1 if is_fgm else training.adversarial_steps
        self._deltas: list[torch.Tensor] = []
        self._calls = 0
        self._is_active = False
        self._network = network
        self._look_up = find()
        for module in network.modules():
            # T5 and BART look up in an encoder and a decoder, each with a module of its own around the one table.
            if module is self._look_up or (
                type(module) is type(self._look_up) and module.weight is self._look_up.weight
            ):
                module.register_forward_hook(self._perturb)

    def passes(self, compute: Callable[..., torch.Tensor]) -> Iterator[torch.Tensor]:
        """The losses of a micro-batch that are trained: without a perturbation, then with it.

        The caller takes the gradient of each before it asks for the next.

        Args:
            compute: a forward pass that gives the loss; through an engine, or through the network that it is given.
        """
        import torch

        self._deltas, self._is_active = [], True
        try:
            yield self._forward(compute)
            gradients = [delta.grad for delta in self._deltas]
            for number in range(self._ascents):
                self._ascend(gradients)
                if number < self._ascents - 1:
                    # Of the perturbation alone: the weights' gradients are those of the passes that are trained. Not
                    # through the engine, which takes the backward pass of what it computed for one of those.
                    loss = self._forward(compute, self._network)
                    gradients = list(torch.autograd.grad(loss, self._deltas))
            yield self._forward(compute)
        finally:
            self._deltas, self._is_active = [], False

    def _forward(self, compute: Callable[..., torch.Tensor], *model: Any) -> torch.Tensor:
        self._calls = 0
        return compute(*model)

    def _perturb(self, module: Any, inputs: Any, output_BSH: torch.Tensor) -> torch.Tensor:
        """Adds the perturbation of this look-up: the first, or that of a decoder, and so on."""
        if not self._is_active:
            return output_BSH
        if self._calls == len(self._deltas):
            self._deltas.append(output_BSH.new_zeros(output_BSH.shape).requires_grad_())
        self._calls += 1
        return output_BSH + self._deltas[self._calls - 1]

    def _ascend(self, gradients: list[Any]) -> None:
        """Move each example's perturbation along its gradient, and back into the ball where it left it.

        Raises:
            ConfigError: the forward pass looked nothing up.
        """
        if not self._deltas:
            raise ConfigError(
                f"moves what {type(self._look_up).__name__} looks up, which {type(self._network).__name__} never does",
                where="training.adversarial",
                expected="none",
            )
        found = [gradient.float() for gradient in gradients]
        # Zero where the gradient is zero, as of a place without an example.
        factor_B11 = self._step_size / _norms(found).clamp(min=1e-30)
        moved = [delta.detach().float() + gradient * factor_B11 for delta, gradient in zip(self._deltas, found)]
        back_B11 = self._radius / _norms(moved).clamp(min=self._radius)
        self._deltas = [
            (new * back_B11).to(delta.dtype).requires_grad_() for new, delta in zip(moved, self._deltas, strict=True)
        ]


def _norms(values: list[torch.Tensor]) -> torch.Tensor:
    """The norm of each example, over all its look-ups, [B, 1, 1]."""
    import torch

    norms_B = torch.stack([value_BSH.flatten(1).norm(dim=1) for value_BSH in values]).norm(dim=0)
    return norms_B.view(-1, *[1] * (values[0].dim() - 1))
