"""Input and output of networks: batches of posed views, and per-pixel Gaussians."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from recon.model.mvs.depth_range import DepthRange
from recon.types import Views
from render import Cameras, Gaussians
from render.tensors import TensorStruct


@dataclass(frozen=True)
class ViewBatch(TensorStruct, axis="v"):
    """Views of several scenes; all images have one size. Indexing selects views."""

    images: Float[Tensor, "b v 3 h w"]
    """Display sRGB in [0, 1]."""
    cameras: Cameras
    """Cameras with one batch axis."""
    near: Float[Tensor, "b v"]
    """Nearest depth per view (z, units of the cameras)."""
    far: Float[Tensor, "b v"]
    """Farthest depth per view (z, units of the cameras)."""

    @property
    def middle_depth(self) -> Float[Tensor, "b v"]:
        """The depth whose disparity is halfway between near and far."""
        return 2 / (1 / self.near + 1 / self.far)

    @staticmethod
    def from_views(views: Views, depths: DepthRange) -> "ViewBatch":
        """Make a batch of one scene."""
        cameras = views.cameras.unflatten(1)
        return ViewBatch(views.images[None], cameras, depths.near[None], depths.far[None])

    def padded(self, multiple: int) -> "ViewBatch":
        """Pad the images at the right and bottom (edges repeated) to multiples of `multiple` px.

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
        """Downsample the images, whose sides must be even, by 2: means of 2x2 pixels."""
        height, width = self.images.shape[-2:]
        small = torch.nn.functional.avg_pool2d(self.images.flatten(0, 1), 2)
        images = small.unflatten(0, self.images.shape[:2])
        return replace(self, images=images, cameras=self.cameras.resized(width // 2, height // 2))


@dataclass(frozen=True)
class NetworkOutput(TensorStruct):
    """Gaussians in the frame of the batch's cameras, with the depth they were placed at."""

    gaussians: Gaussians
    """[b, n], ordered by view, row and column."""
    depth: Float[Tensor, "b v h w"]
    """Depth of every pixel (z, units of the cameras)."""
    confidence: Float[Tensor, "b v h w"]
    """Confidence in the depth, 0 to 1."""
    intermediate_depths: tuple[Float[Tensor, "b v h w"], ...] = ()
    """Depths of the network's intermediate stages, which are supervised too."""
    intermediate_gaussians: tuple[Gaussians, ...] = ()
    """Gaussians before later corrections, which are rendered and compared too; none without
    gradients."""
    viewmats: Float[Tensor, "b v 4 4"] | None = None
    """Poses (world to camera) that a network predicts, with the first one as given."""
