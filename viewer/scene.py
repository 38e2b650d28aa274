"""A scene as it is looked at and edited."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.compress import contribution, sphere
from render import Cameras, Gaussians


@dataclass
class ShownScene:
    """Gaussians with a name; edits hide some of them, and can be taken back."""

    name: str
    gaussians: Gaussians
    megabytes: float = 0.0
    visible: bool = True
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Beside the others (browser units)."""
    weight: Float[Tensor, "n"] = field(init=False)
    """How much each one may matter in pictures: opacity times the area of its two longer axes."""
    kept: Bool[Tensor, "n"] = field(init=False)
    history: list[Bool[Tensor, "n"]] = field(default_factory=list)
    version: int = 0
    """Counts changes, so that sessions know what they have sent."""
    judges: Cameras | None = None
    """Where contributions are measured; without, all around."""
    _contribution: Float[Tensor, "n"] | None = field(default=None, init=False, repr=False)
    _measuring: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self._measure()

    def _measure(self) -> None:
        scales = self.gaussians.scales.sort(-1).values
        self.weight = self.gaussians.opacities * scales[:, 1] * scales[:, 2]
        self.kept = torch.ones(len(self.gaussians), dtype=torch.bool)
        self.history.clear()
        self._contribution = None

    def contribution(self) -> Float[Tensor, "n"]:
        """How much each one does matter in pictures; measured when it is first asked for."""
        with self._measuring:
            gaussians = self.gaussians
            if self._contribution is None or len(self._contribution) != len(gaussians):
                self._contribution = contribution(gaussians, self.judges or sphere(gaussians))
            return self._contribution

    def replace(self, gaussians: Gaussians) -> None:
        """A newer state of the scene, from a running optimisation; edits are lost."""
        self.gaussians = gaussians.detach().to("cpu", torch.float32)
        self._measure()
        self.version += 1

    def hide(self, which: Bool[Tensor, "n"]) -> int:
        """Hide some; how many more are hidden now."""
        before = int(self.kept.sum())
        self.history.append(self.kept)
        self.kept = self.kept & ~which
        self.version += 1
        return before - int(self.kept.sum())

    def undo(self) -> bool:
        """Take the last edit back; False when there is none."""
        if not self.history:
            return False
        self.kept = self.history.pop()
        self.version += 1
        return True

    def chosen(
        self, passes: Callable[[Gaussians], Bool[Tensor, "n"]], limit: int
    ) -> Int[Tensor, "m"]:
        """Which ones to show: those left that pass; the most important ones of too many."""
        index = torch.nonzero(self.kept & passes(self.gaussians))[:, 0]
        if len(index) <= limit:
            return index
        top = self.weight[index].topk(limit, sorted=False).indices
        return index[top.sort().values]
