"""A scene as it is looked at and edited."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from render import Gaussians


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
    """How much each one matters in pictures: opacity times the area of its two longer axes."""
    kept: Bool[Tensor, "n"] = field(init=False)
    history: list[Bool[Tensor, "n"]] = field(default_factory=list)
    version: int = 0
    """Counts changes, so that sessions know what they have sent."""

    def __post_init__(self) -> None:
        self._measure()

    def _measure(self) -> None:
        scales = self.gaussians.scales.sort(-1).values
        self.weight = self.gaussians.opacities * scales[:, 1] * scales[:, 2]
        self.kept = torch.ones(len(self.gaussians), dtype=torch.bool)
        self.history.clear()

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
