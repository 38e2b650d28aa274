"""What networks take and give: batches of posed views, Gaussians of every pixel."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.depth_range import DepthRange
from recon.types import Views
from render import Cameras, Gaussians


@dataclass(frozen=True)
class ViewBatch:
    """Views of several scenes, all pictures of one size."""

    images: Float[Tensor, "b v 3 h w"]
    """Display sRGB in [0, 1]."""
    cameras: Cameras
    """With one batch axis."""
    near: Float[Tensor, "b v"]
    """Nearest depth per view (z, units of the cameras)."""
    far: Float[Tensor, "b v"]

    @property
    def middle_depth(self) -> Float[Tensor, "b v"]:
        """Where disparity is half way between near and far."""
        return 2 / (1 / self.near + 1 / self.far)

    @staticmethod
    def of_views(views: Views, depths: DepthRange) -> "ViewBatch":
        """A batch of one scene."""
        cameras = views.cameras.unflatten(1)
        return ViewBatch(views.images[None], cameras, depths.near[None], depths.far[None])

    def padded(self, multiple: int) -> "ViewBatch":
        """Pictures grown at the right and bottom (edges repeated) to multiples of `multiple`.

        Pixels keep their rays: only the cameras' width and height grow.
        """
        height, width = self.images.shape[-2:]
        right, bottom = -width % multiple, -height % multiple
        if right == 0 and bottom == 0:
            return self
        flat = torch.nn.functional.pad(
            self.images.flatten(0, 1), (0, right, 0, bottom), mode="replicate"
        )
        cameras = replace(self.cameras, width=width + right, height=height + bottom)
        return replace(self, images=flat.unflatten(0, self.images.shape[:2]), cameras=cameras)

    def halved(self) -> "ViewBatch":
        """Pictures of half the size, which must be even: means of 2x2 pixels."""
        height, width = self.images.shape[-2:]
        small = torch.nn.functional.avg_pool2d(self.images.flatten(0, 1), 2)
        images = small.unflatten(0, self.images.shape[:2])
        return replace(self, images=images, cameras=self.cameras.resized(width // 2, height // 2))


@dataclass(frozen=True)
class NetworkOutput:
    """Gaussians in the frame of the batch's cameras, and the depth they were put at."""

    gaussians: Gaussians
    """[b, n]: views, then rows, then columns."""
    depth: Float[Tensor, "b v h w"]
    """z, units of the cameras."""
    confidence: Float[Tensor, "b v h w"]
    """How far the depth can be trusted, 0 to 1."""
    earlier_depths: tuple[Float[Tensor, "b v h w"], ...] = ()
    """What a network thought on the way, to be supervised too."""
