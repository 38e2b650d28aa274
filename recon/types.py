"""Values that stages of the pipeline hand to each other."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from render import Cameras, Gaussians, TensorStruct

# Called with the completed fraction (0 to 1) of a task.
Progress = Callable[[float], None]
# Called with the name of a stage and its completed fraction (0 to 1).
StageProgress = Callable[[str, float], None]


@dataclass(frozen=True)
class Views(TensorStruct, axis="v"):
    """Pictures of one size with their pinhole cameras, ready for a model."""

    images: Float[Tensor, "*v 3 h w"]
    """Display sRGB in [0, 1], undistorted; black where the mask is 0."""
    masks: Float[Tensor, "*v 1 h w"]
    """1 = part of the scene, 0 = left out (masked, transparent or outside the photo)."""
    valid: Float[Tensor, "*v 1 h w"]
    """1 = inside the photo, 0 = where undistortion or padding has nothing to show."""
    cameras: Cameras
    names: tuple[str, ...]
    depth_bounds: Float[Tensor, "*v 2"] | None = None
    """Nearest and farthest depth per view (z, world units), when the capture tells."""

    def resized(self, scale: float) -> "Views":
        """The views with pictures and cameras at another size, by area."""
        height, width = (max(round(side * scale), 8) for side in self.images.shape[-2:])

        def shrink(pictures: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(pictures, (height, width), mode="area")

        return replace(
            self,
            images=shrink(self.images),
            masks=shrink(self.masks),
            valid=shrink(self.valid),
            cameras=self.cameras.resized(width, height),
        )


@dataclass(frozen=True)
class Prediction(TensorStruct):
    """The output of a model for a set of views."""

    gaussians: Gaussians
    """World frame of the views' cameras; no batch axes."""
    source_view: Int[Tensor, "n"]
    """Index of the view whose pixel each Gaussian was predicted from."""
    depth: Float[Tensor, "v h w"]
    """Depth (z, world units) of every pixel."""
    confidence: Float[Tensor, "v h w"]
    """Confidence of the depth of every pixel, 0 to 1."""


# A method that predicts a scene: networks and classical methods alike.
Model = Callable[[Views, Progress], Prediction]
