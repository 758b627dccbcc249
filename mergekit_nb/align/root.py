"""Model rooting, the first half of GAN Cocktail: teach one network what another does, so that the two can be averaged."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mergekit_nb.progress import CancelFlag, Progress, ticker

Sampler = Callable[[nn.Module, int], tuple[tuple[Tensor, ...], Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


def root(
    model: nn.Module,
    onto: nn.Module,
    sampler: Sampler,
    steps: int = 500,
    *,
    loss: Loss = F.mse_loss,
    rate: float = 1e-3,
    progress: Progress = False,
    cancel: CancelFlag | None = None,
) -> nn.Module:
    """A copy of ``onto`` that has learnt to do what ``model`` does, from nothing but ``model``'s own samples.

    It starts from the weights of ``onto`` and stays near them, in the same basin of the loss: the plain average of the
    two is then a good start for a network that does what both do, where the average of strangers is noise. To finish
    the recipe, average (`mk.blend`) and train the average on samples of both.

    Args:
        model: the network to be rooted; it is only asked for samples, in eval mode and without gradients.
        onto: the network it is rooted onto, of the same architecture.
        sampler: (model, step) -> inputs, a tuple of tensors, and the targets ``model`` gives for them: a generator's
            latents with its pictures, a classifier's pictures with its logits. Key the randomness by the step.
        steps: of Adam.
        loss: of (outputs, targets); a scalar.
        rate: learning rate, falling to zero along a cosine.

    Returns:
        A new module, in eval mode, on the device of ``onto``. Neither argument is touched.

    Raises:
        ValueError: ``steps`` below 1; two networks whose tensors differ.

    Source: Avrahami, Lischinski and Fried 2022, "GAN Cocktail: mixing GANs without dataset access", arXiv:2106.03847.
    There the rooted GAN is trained adversarially on the samples; here any loss will do, and no discriminator is needed
    because latents and pictures come in pairs.
    """
    _check(model, onto, steps)
    teacher, student = copy.deepcopy(model).eval(), copy.deepcopy(onto).train()
    optimiser = torch.optim.Adam(student.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    with ticker(progress, steps, "root", cancel) as tick:
        for step in range(steps):
            with torch.no_grad():
                inputs, targets = sampler(teacher, step)
            optimiser.zero_grad()
            loss(student(*inputs), targets).backward()
            optimiser.step()
            schedule.step()
            tick(1)
    return student.eval()


def _check(model: nn.Module, onto: nn.Module, steps: int) -> None:
    if steps < 1:
        raise ValueError(f"steps is a number of optimiser steps, at least 1; got {steps}")
    own, other = ({name: tuple(of.shape) for name, of in net.state_dict().items()} for net in (model, onto))
    if own != other:
        odd = [name for name in {**own, **other} if own.get(name) != other.get(name)]
        raise ValueError(
            f"model and onto differ in {', '.join(odd[:4])}: only networks of one architecture can be rooted"
        )
