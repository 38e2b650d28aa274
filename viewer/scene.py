"""A scene as it is looked at and edited."""

import threading
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.compress import sphere
from recon.simplify import contribution
from render import Cameras, Gaussians


@dataclass(frozen=True)
class Edited:
    """Gaussians and which of them are left. Read as one: a running optimisation may put others in
    their place at any time."""

    gaussians: Gaussians
    weight: Float[Tensor, "n"]
    """How much each one may matter in pictures: opacity times the area of its two longer axes."""
    kept: Bool[Tensor, "n"]

    @staticmethod
    def of(gaussians: Gaussians) -> "Edited":
        """Nothing removed."""
        scales = gaussians.scales.sort(-1).values
        weight = gaussians.opacities * scales[:, 1] * scales[:, 2]
        return Edited(gaussians, weight, torch.ones(len(gaussians), dtype=torch.bool))

    def chosen(self, passes: Bool[Tensor, "n"], limit: int) -> Int[Tensor, "m"]:
        """Which ones to show: those left that pass; the most important ones of too many."""
        index = torch.nonzero(self.kept & passes)[:, 0]
        if len(index) <= limit:
            return index
        top = self.weight[index].topk(limit, sorted=False).indices
        return index[top.sort().values]


@dataclass
class ShownScene:
    """Gaussians with a name; edits hide some of them, and can be taken back."""

    name: str
    gaussians: InitVar[Gaussians]
    megabytes: float = 0.0
    visible: bool = True
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Beside the others (browser units)."""
    judges: Cameras | None = None
    """Where contributions are measured; without, all around."""
    state: Edited = field(init=False)
    history: list[Edited] = field(default_factory=list, init=False)
    version: int = field(default=0, init=False)
    """Counts changes, so that sessions know what they have sent."""
    _changing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _measured: tuple[Gaussians, Float[Tensor, "n"]] | None = field(
        default=None, init=False, repr=False
    )
    _measuring: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self, gaussians: Gaussians) -> None:
        self.state = Edited.of(gaussians)

    def contribution(self, gaussians: Gaussians) -> Float[Tensor, "n"]:
        """How much each of the scene's Gaussians does matter in pictures; measured once."""
        with self._measuring:
            if self._measured is None or self._measured[0] is not gaussians:
                found = contribution(gaussians, self.judges or sphere(gaussians))
                self._measured = (gaussians, found)
            return self._measured[1]

    def replace(self, gaussians: Gaussians) -> None:
        """A newer state of the scene, from a running optimisation; edits are lost."""
        with self._changing:
            self.history.clear()
            self._become(Edited.of(gaussians.detach().to("cpu", torch.float32)))

    def hide(self, which: Callable[[Gaussians], Bool[Tensor, "n"]]) -> int:
        """Hide some; how many more are hidden now."""
        with self._changing:
            before = self.state
            self.history.append(before)
            self._become(replace(before, kept=before.kept & ~which(before.gaussians)))
            return int(before.kept.sum() - self.state.kept.sum())

    def undo(self) -> bool:
        """Take the last edit back; False when there is none."""
        with self._changing:
            if self.history:
                self._become(self.history.pop())
                return True
            return False

    def _become(self, state: Edited) -> None:
        self.state = state
        self.version += 1
