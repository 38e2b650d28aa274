"""Values that the stages of the pipeline pass to each other."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from recon.errors import InputError
from render import Cameras, Gaussians, TensorStruct


class StopEarly(Exception):
    """Raised by a progress function to end an optimisation with the scene so far."""


# Called with the completed fraction (0 to 1) of a task.
Progress = Callable[[float], None]
# Called with the name of a stage and its completed fraction (0 to 1).
StageProgress = Callable[[str, float], None]


def _in_unit_range(values: Tensor) -> bool:
    """Return whether values are finite and in [0, 1], or hardly outside, as after resizing."""
    return bool(((values > -0.1) & (values < 1.1)).all())


@dataclass(frozen=True)
class Views(TensorStruct, axis="v"):
    """Images of one size with their pinhole cameras, ready for a model."""

    images: Float[Tensor, "*v 3 h w"]
    """Display sRGB in [0, 1], undistorted; black where the mask is 0."""
    masks: Float[Tensor, "*v 1 h w"]
    """1 for pixels of the scene, 0 for others (masked, transparent, or outside the photo)."""
    valid: Float[Tensor, "*v 1 h w"]
    """1 inside the photo, 0 where undistortion or padding left no pixel."""
    cameras: Cameras
    """A camera for each image, at the size of the images."""
    names: tuple[str, ...]
    """Name of each view; that of its photo, if there is one."""
    depth_bounds: Float[Tensor, "*v 2"] | None = None
    """Nearest and farthest depth per view (z, world units); None unless the capture states them."""

    def validate(self) -> None:
        """Raise an InputError that names the first attribute with wrong shapes or values, if any.

        Cameras must have the number and the size of the images, and rigid poses.
        """
        count, size = len(self.images), tuple(self.images.shape[-2:])
        found = (self.cameras.height, self.cameras.width)
        viewmats = self.cameras.viewmats
        if self.images.ndim != 4 or self.images.shape[1] != 3:
            raise InputError(f"Views.images must be [v 3 h w], got {tuple(self.images.shape)}")
        if self.images.dtype != torch.float32:
            raise InputError(f"Views.images must be float32 in [0, 1], got {self.images.dtype}")
        if len(viewmats) != count or len(self.names) != count or found != size:
            raise InputError(
                f"Views.cameras are {len(viewmats)} of {found[1]}x{found[0]} px with "
                f"{len(self.names)} names; expected those of {count} images of {size[1]}x{size[0]}"
            )
        if not _in_unit_range(self.images):
            raise InputError(
                "Views.images must be finite and in [0, 1]; divide 8-bit values by 255"
            )
        for name, mask in (("masks", self.masks), ("valid", self.valid)):
            shape = (count, 1, *size)
            if mask.dtype != torch.float32 or tuple(mask.shape) != shape:
                raise InputError(
                    f"Views.{name} must be float32 of shape {shape}, got {mask.dtype} of shape "
                    f"{tuple(mask.shape)}"
                )
            if not _in_unit_range(mask):
                raise InputError(f"Views.{name} must be finite and in [0, 1]")
        bounds = self.depth_bounds
        if bounds is not None and (
            tuple(bounds.shape) != (count, 2)
            or not bool(((bounds[:, 0] > 0) & (bounds[:, 0] < bounds[:, 1])).all())
            or not bool(torch.isfinite(bounds).all())
        ):
            raise InputError("Views.depth_bounds must be a finite 0 < near < far for each view")
        self._validate_cameras()

    def _validate_cameras(self) -> None:
        viewmats, Ks = self.cameras.viewmats, self.cameras.Ks
        if tuple(viewmats.shape[1:]) != (4, 4) or tuple(Ks.shape) != (len(viewmats), 3, 3):
            raise InputError(
                "Views.cameras must have viewmats [v 4 4] and Ks [v 3 3], got "
                f"{tuple(viewmats.shape)} and {tuple(Ks.shape)}"
            )
        if not (viewmats.is_floating_point() and Ks.is_floating_point()):
            raise InputError(
                "Views.cameras must have floating-point viewmats and Ks, got "
                f"{viewmats.dtype} and {Ks.dtype}"
            )
        last = Ks.new_tensor([0, 0, 1])
        is_pinhole = torch.isfinite(Ks).all(-1).all(-1) & (Ks[:, 0, 0] > 0) & (Ks[:, 1, 1] > 0)
        is_pinhole &= (Ks[:, 2] == last).all(-1) & (Ks[:, 0, 1] == 0) & (Ks[:, 1, 0] == 0)
        if not bool(is_pinhole.all()):
            raise InputError(
                f"Views.cameras.Ks[{int((~is_pinhole).nonzero()[0])}] is no pinhole camera; "
                "expected finite rows fx 0 cx, 0 fy cy, 0 0 1 with focal lengths above 0 (px)"
            )
        rotations = viewmats[..., :3, :3].double()
        errors = (rotations @ rotations.mT - torch.eye(3).to(rotations)).abs().amax((-2, -1))
        is_rigid = (errors < 1e-3) & (torch.linalg.det(rotations) > 0)
        is_rigid &= torch.isfinite(viewmats).all(-1).all(-1)
        if not bool(is_rigid.all()):
            raise InputError(
                f"Views.cameras.viewmats[{int((~is_rigid).nonzero()[0])}] is not a rotation and a "
                "translation; expected finite camera-from-world matrices, not mirrored or scaled"
            )

    def resized(self, scale: float) -> "Views":
        """Return the views at `scale` times their size, at least 8 px, averaged over areas."""
        height, width = (max(round(side * scale), 8) for side in self.images.shape[-2:])

        def shrink(images: Tensor) -> Tensor:
            return torch.nn.functional.interpolate(images, (height, width), mode="area")

        return replace(
            self,
            images=shrink(self.images),
            masks=shrink(self.masks),
            valid=shrink(self.valid),
            cameras=self.cameras.resized(width, height),
        )


@dataclass(frozen=True)
class PackedViews(TensorStruct, axis="v"):
    """Many views at 8 bits a channel, some of which become floating-point `Views` by an index.

    Photos have no more bits, and 500 of them take 3 bytes a pixel instead of 20.
    """

    colors: UInt8[Tensor, "*v 3 h w"]
    """Display sRGB in 0 to 255, undistorted; black where the mask is 0."""
    cameras: Cameras
    """A camera for each image, at the size of the images."""
    names: tuple[str, ...]
    """Name of each view."""
    masks: UInt8[Tensor, "*v 1 h w"] | None = None
    """255 for pixels of the scene, 0 for others; None if all pixels belong to it."""
    valid: UInt8[Tensor, "*v 1 h w"] | None = None
    """255 inside the photo, 0 elsewhere; None if all pixels are inside."""
    depth_bounds: Float[Tensor, "*v 2"] | None = None
    """Nearest and farthest depth per view (z, world units); None unless the capture states them."""

    def __getitem__(self, which: Any) -> Views:  # type: ignore[override]
        """Return some views in floating point: one, or those of a slice, list or mask."""
        some = super().__getitem__(which)
        images = some.colors.float().div_(255)
        # Of no size in memory.
        whole = images.new_ones(1).expand(*images.shape[:-3], 1, *images.shape[-2:])
        masks, valid = (
            whole if values is None else values.float().div_(255)
            for values in (some.masks, some.valid)
        )
        return Views(images, masks, valid, some.cameras, some.names, some.depth_bounds)


@dataclass(frozen=True)
class Prediction(TensorStruct):
    """The output of a model for a set of views."""

    gaussians: Gaussians
    """World frame of the views' cameras; no batch axes."""
    source_view: Int[Tensor, " n"]
    """Index of the view whose pixel each Gaussian was predicted from."""
    depth: Float[Tensor, "g h w"]
    """Depth (z, world units) of every pixel of the geometry views."""
    confidence: Float[Tensor, "g h w"]
    """Confidence of the depth of every pixel, 0 to 1."""
    geometry_views: tuple[int, ...] | None = None
    """Indices of the views that `depth` and `confidence` belong to; None stands for all views.
    Their size may be smaller than that of the views."""


# A method that predicts a scene: networks and classical methods alike.
Model = Callable[[Views, Progress], Prediction]
