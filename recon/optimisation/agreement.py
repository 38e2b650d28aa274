"""Gradient agreement: an attribute changes only where the views agree on the direction."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from recon.optimisation.view_count_policy import POLICY
from render import Gaussians

ATTRIBUTES = tuple(field.name for field in fields(Gaussians))
# Required margin of views with a positive over views with a negative gradient, or vice versa.
MIN_MARGIN = 2


class GradientAgreement:
    """Per-view gradients of one scene, masked where the views disagree on the sign.

    This is the AND-mask of Parascandolo et al. 2021, "Learning explanations that are hard to
    vary". It applies with two views: what only one of them sees stays as it was predicted. One
    view has nothing to agree with, and more views correct each other (see ViewCountPolicy).
    """

    def __init__(self, source: Gaussians, num_views: int, require_agreement: bool = True) -> None:
        """Start with zero gradients.

        Args:
            source: The scene, attached to the autograd graph of its parameters.
            num_views: Total number of views, not only those of one step.
            require_agreement: Without it, the gradients of all views are summed unmasked.
        """
        self.source = source
        self.leaves = {name: getattr(source, name).detach().requires_grad_() for name in ATTRIBUTES}
        self.scene = Gaussians(**self.leaves)
        """A copy of the scene to render each view from, detached from the parameters."""
        masked = ATTRIBUTES if require_agreement and POLICY.requires_agreement(num_views) else ()
        self.total = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self.signs = {name: torch.zeros_like(self.leaves[name]) for name in masked}

    def add(self, loss: Float[Tensor, ""]) -> None:
        """Add the gradients of one view's loss, computed from a rendering of `scene`.

        Other leaves of the loss (such as the exposure) receive their gradient at once.
        """
        loss.backward()
        for name, leaf in self.leaves.items():
            if leaf.grad is None:
                continue
            self.total[name] += leaf.grad
            if name in self.signs:
                self.signs[name] += leaf.grad.sign()
            leaf.grad = None

    def apply(self) -> None:
        """Backpropagate the masked sum of gradients to the parameters."""
        for name, signs in self.signs.items():
            self.total[name] *= signs.abs() >= MIN_MARGIN
        tensors = [getattr(self.source, name) for name in ATTRIBUTES]
        torch.autograd.backward(tensors, [self.total[name] for name in ATTRIBUTES])
