"""A photo alone does not decide: what it wants may be right for its own pixels only."""

from dataclasses import fields

import torch
from jaxtyping import Float
from torch import Tensor

from render import Gaussians

NAMES = tuple(field.name for field in fields(Gaussians))
# So many more photos must want a number to go up than down, or the other way round.
MAJORITY = 2


class Ballot:
    """The photos' gradients on one scene, and what comes of them.

    With two photos a number of a Gaussian moves only if both want it to go the same way (the
    AND-mask of Parascandolo et al. 2021, "Learning explanations that are hard to vary"): what only
    one of them sees stays as it was predicted. With more photos this is asked of opacities, by
    which one photo would make the others' Gaussians vanish. One photo is the only witness.
    """

    def __init__(self, scene: Gaussians, photos: int, unanimous: bool = True) -> None:
        """`scene` hangs on the parameters; `photos` are all there are, not only those that vote.
        Not `unanimous`: everybody's gradients count."""
        self.scene = scene
        self.leaves = {name: getattr(scene, name).detach().requires_grad_() for name in NAMES}
        self.paper = Gaussians(**self.leaves)
        """The scene as the photos are to render it."""
        self.asked: tuple[str, ...] = ("opacities",)
        if photos == 1 or not unanimous:
            self.asked = ()
        elif photos == 2:
            self.asked = NAMES
        self.total = {name: torch.zeros_like(leaf) for name, leaf in self.leaves.items()}
        self.votes = {name: torch.zeros_like(self.leaves[name]) for name in self.asked}

    def cast(self, error: Float[Tensor, ""]) -> None:
        """One photo's error, from a rendering of `paper`; other leaves get its gradient at once."""
        error.backward()
        for name, leaf in self.leaves.items():
            if leaf.grad is None:
                continue
            self.total[name] += leaf.grad
            if name in self.asked:
                self.votes[name] += leaf.grad.sign()
            leaf.grad = None

    def count(self) -> None:
        """Hand what was decided on to the parameters."""
        for name, votes in self.votes.items():
            self.total[name] *= votes.abs() >= MAJORITY
        tensors = [getattr(self.scene, name) for name in NAMES]
        torch.autograd.backward(tensors, [self.total[name] for name in NAMES])
