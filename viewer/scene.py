"""A scene in the viewer, with edits that can be undone."""

import threading
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from recon.compression import sphere_cameras
from recon.formats import NamedCamera
from recon.precision import WORLD, Origin
from recon.simplification.decimation import contribution
from render import Cameras, Gaussians


@dataclass(frozen=True)
class EditState:
    """Gaussians and which of them are kept.

    Readers take the whole object once, since a running optimisation may replace it at any time.
    """

    gaussians: Gaussians
    weight: Float[Tensor, " n"]
    """Cheap importance: opacity times the product of the two larger scales."""
    kept: Bool[Tensor, " n"]

    @staticmethod
    def of(gaussians: Gaussians) -> "EditState":
        """Keep all Gaussians."""
        scales = gaussians.scales.sort(-1).values
        weight = gaussians.opacities * scales[:, 1] * scales[:, 2]
        return EditState(gaussians, weight, torch.ones(len(gaussians), dtype=torch.bool))

    def select_indices(self, mask: Bool[Tensor, " n"], limit: int) -> Int[Tensor, " m"]:
        """Return the indices of kept Gaussians in the mask, the heaviest `limit` at most."""
        index = torch.nonzero(self.kept & mask)[:, 0]
        if len(index) <= limit:
            return index
        top = self.weight[index].topk(limit, sorted=False).indices
        return index[top.sort().values]


@dataclass
class ViewerScene:
    """Gaussians with a name; edits hide some of them and can be undone."""

    name: str
    gaussians: InitVar[Gaussians]
    megabytes: float = 0.0
    origin: Origin = WORLD
    """World coordinates of the point that the Gaussians are relative to."""
    antialiased: bool = False
    """Whether the scene is for rendering with the 2D filter of Mip-Splatting."""
    start: Cameras | None = None
    """Camera from which to look at it first, in the world frame; None if that is not known."""
    file_cameras: tuple[NamedCamera, ...] = ()
    """Further cameras of its file, in the world frame, which saving it keeps."""
    visible: bool = True
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Position in the browser's frame (browser units)."""
    contribution_cameras: Cameras | None = None
    """Cameras to measure contributions with; an orbit around the scene by default."""
    state: EditState = field(init=False)
    history: list[EditState] = field(default_factory=list, init=False)
    version: int = field(default=0, init=False)
    """Number of changes so far, which tells a session whether what it sent is current."""
    _changing: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _measured: tuple[Gaussians, Float[Tensor, " n"]] | None = field(
        default=None, init=False, repr=False
    )
    _measuring: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self, gaussians: Gaussians) -> None:
        self.state = EditState.of(gaussians)

    def contribution(self, gaussians: Gaussians) -> Float[Tensor, " n"]:
        """Measure how much each Gaussian contributes to images (px), once per scene."""
        with self._measuring:
            if self._measured is None or self._measured[0] is not gaussians:
                found = contribution(
                    gaussians, self.contribution_cameras or sphere_cameras(gaussians)
                )
                self._measured = (gaussians, found)
            return self._measured[1]

    def replace(self, gaussians: Gaussians) -> None:
        """Replace the Gaussians by a later state of an optimisation; edits are lost."""
        with self._changing:
            self.history.clear()
            self._set_state(EditState.of(gaussians.detach().to("cpu", torch.float32)))

    def hide(self, mask_of: Callable[[Gaussians], Bool[Tensor, " n"]]) -> int:
        """Hide the Gaussians of a mask and return how many more are hidden now.

        It is an edit, which can be undone, only if there are any.
        """
        with self._changing:
            before = self.state
            kept = before.kept & ~mask_of(before.gaussians)
            count = int(before.kept.sum() - kept.sum())
            if count > 0:
                self.history.append(before)
                self._set_state(replace(before, kept=kept))
            return count

    def undo(self) -> bool:
        """Undo the last edit and return whether there was one."""
        with self._changing:
            if self.history:
                self._set_state(self.history.pop())
                return True
            return False

    def _set_state(self, state: EditState) -> None:
        self.state = state
        self.version += 1
