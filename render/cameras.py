"""Pinhole cameras: poses and intrinsics of images of one size."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from render.sim3 import Sim3
from render.tensors import TensorStruct

# Sine of the angle below which two directions are parallel: float32 rounds it by some 1e-7.
PARALLEL = 1e-6


@dataclass(frozen=True)
class Cameras(TensorStruct, axis="v"):
    """Pinhole cameras with OpenCV axes (x right, y down, z forward).

    Continuous image coordinates start at the corner of the top-left pixel: the
    centre of column i, row j is (i + 0.5, j + 0.5), as in COLMAP and gsplat.

    `*v` in the shapes stands for any batch axes followed by v, the cameras. `cameras[i]` and
    iteration give single cameras without the axis v; every method and `rasterize` take those too.
    """

    viewmats: Float[Tensor, "*v 4 4"]
    """Camera from world; a rotation and a translation."""
    Ks: Float[Tensor, "*v 3 3"]
    """Intrinsics in pixels of this width and height; zero skew."""
    width: int
    """Of the images (px)."""
    height: int
    """Of the images (px)."""

    @staticmethod
    def from_focal(
        viewmats: Float[Tensor, "*v 4 4"],
        focal_px: float | tuple[float, float],
        width: int,
        height: int,
        center_px: tuple[float, float] | None = None,
    ) -> "Cameras":
        """Build cameras that share a focal length.

        Args:
            viewmats: camera from world, OpenCV axes.
            focal_px: focal length in pixels of this width and height, or (horizontal, vertical).
            width: of the images, in pixels.
            height: of the images, in pixels.
            center_px: principal point (x, y) in pixels from the top-left corner of the image; its
                middle by default.

        Raises:
            ValueError: the matrices are not [4 4] and floating-point, the focal length is not
                positive, or the images have no pixels.
        """
        _check_poses("viewmats", viewmats)
        _check_size(width, height)
        fx, fy = focal_px if isinstance(focal_px, tuple) else (focal_px, focal_px)
        if not (0 < fx < math.inf and 0 < fy < math.inf):
            raise ValueError(f"focal_px is {focal_px}, expected a positive number of pixels")
        cx, cy = center_px or (width / 2, height / 2)
        K = viewmats.new_tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
        return Cameras(viewmats, K.expand(*viewmats.shape[:-2], 3, 3).clone(), width, height)

    @staticmethod
    def from_fov(
        viewmats: Float[Tensor, "*v 4 4"],
        fov_deg: float,
        width: int,
        height: int,
        side: Literal["width", "height", "longer", "shorter"] = "height",
        center_px: tuple[float, float] | None = None,
    ) -> "Cameras":
        """Build cameras that share a field of view and have square pixels.

        Args:
            viewmats: camera from world, OpenCV axes.
            fov_deg: full angle between two opposite edges of the image, in degrees.
            width: of the images, in pixels.
            height: of the images, in pixels.
            side: the side of the image that the angle spans; the height (vertical field of view)
                by default.
            center_px: as in `from_focal`; the angle is that of an image with it in the middle.

        Raises:
            ValueError: the angle is not between 0 and 180 degrees, there is no such side, or
                `from_focal` refuses the other arguments.
        """
        if not 0 < fov_deg < 180:
            raise ValueError(f"fov_deg is {fov_deg}, expected an angle between 0 and 180 degrees")
        lengths = {"width": width, "height": height}
        lengths |= {"longer": max(width, height), "shorter": min(width, height)}
        if side not in lengths:
            raise ValueError(f"side is {side!r}, expected one of: {', '.join(lengths)}")
        _check_size(width, height)
        focal_px = 0.5 * lengths[side] / math.tan(math.radians(fov_deg) / 2)
        return Cameras.from_focal(viewmats, focal_px, width, height, center_px)

    @staticmethod
    def from_c2w(
        c2w: Float[Tensor, "*v 4 4"],
        Ks: Float[Tensor, "*#v 3 3"],
        width: int,
        height: int,
        axes: Literal["opencv", "opengl"] = "opencv",
    ) -> "Cameras":
        """Build cameras from poses that map camera to world coordinates.

        Args:
            c2w: world from camera; a rotation and a translation.
            Ks: intrinsics in pixels of this width and height, of each camera or [3 3] of all.
            width: of the images, in pixels.
            height: of the images, in pixels.
            axes: of the cameras. "opencv": x right, y down, z forward (COLMAP). "opengl": x right,
                y up, z backward (poses of Blender, NeRF and nerfstudio are "opengl").

        Raises:
            ValueError: there are no such axes, the poses are not [4 4] or the intrinsics not
                [3 3], either is not floating-point, a focal length is not positive, or the images
                have no pixels.
        """
        if axes not in ("opencv", "opengl"):
            raise ValueError(
                f"axes is {axes!r}, expected opencv or opengl (of Blender, NeRF and nerfstudio)"
            )
        _check_poses("c2w", c2w)
        _check_intrinsics(Ks, c2w)
        _check_size(width, height)
        if axes == "opengl":
            c2w = c2w * c2w.new_tensor([1, -1, -1, 1])
        return Cameras(_inverse(c2w), Ks.expand(*c2w.shape[:-2], 3, 3).clone(), width, height)

    def flatten(self) -> "Cameras":
        """Merge all batch axes with the axis of cameras."""
        return replace(self, viewmats=self.viewmats.reshape(-1, 4, 4), Ks=self.Ks.reshape(-1, 3, 3))

    def unflatten(self, scenes: int) -> "Cameras":
        """Split the cameras evenly among scenes, the new first axis."""
        viewmats, Ks = (t.unflatten(0, (scenes, -1)) for t in (self.viewmats, self.Ks))
        return replace(self, viewmats=viewmats, Ks=Ks)

    @property
    def c2w(self) -> Float[Tensor, "*v 4 4"]:
        """Camera-to-world matrices, OpenCV axes."""
        return _inverse(self.viewmats)

    @property
    def centers(self) -> Float[Tensor, "*v 3"]:
        """Optical centres in the world frame."""
        return camera_centers(self.viewmats)

    def resized(self, width: int, height: int) -> "Cameras":
        """Adapt the intrinsics to images resampled to width x height, at least 1 x 1."""
        _check_size(width, height)
        factors = [width / self.width, height / self.height, 1.0]
        scale = torch.tensor(factors, dtype=self.Ks.dtype, device=self.Ks.device)
        return Cameras(self.viewmats, self.Ks * scale[:, None], width, height)

    def reduced(self, long_side: int) -> "Cameras":
        """Adapt the intrinsics to images whose longer side is at most this (px)."""
        scale = min(1.0, long_side / max(self.width, self.height))
        return self.resized(*(max(1, round(scale * side)) for side in (self.width, self.height)))

    def cropped(self, x0: int, y0: int, width: int, height: int) -> "Cameras":
        """Adapt the intrinsics to a window of the images that starts at pixel (x0, y0)."""
        _check_size(width, height)
        offset = torch.zeros(3, 3, dtype=self.Ks.dtype, device=self.Ks.device)
        offset[0, 2], offset[1, 2] = x0, y0
        return Cameras(self.viewmats, self.Ks - offset, width, height)

    def transformed(self, dst_from_src: Sim3) -> "Cameras":
        """Express the cameras in another world frame; depths are multiplied by its scale."""
        rotmats = self.viewmats[..., :3, :3] @ dst_from_src.rotmat.T
        moved = dst_from_src.scale * self.viewmats[..., :3, 3] - rotmats @ dst_from_src.translation
        viewmats = self.viewmats.clone()
        viewmats[..., :3, :3], viewmats[..., :3, 3] = rotmats, moved
        return replace(self, viewmats=viewmats)

    def rays(self) -> tuple[Float[Tensor, "*v h w 3"], Float[Tensor, "*v h w 3"]]:
        """Compute world rays (rays_o, rays_d) through the pixel centres.

        rays_d has unit depth, not unit length: rays_o + depth * rays_d is the point
        at that depth.
        """
        y, x = pixel_centers(self.height, self.width, self.Ks)
        K = self.Ks[..., None, None, :, :]
        dirs_x, dirs_y = (x - K[..., 0, 2]) / K[..., 0, 0], (y - K[..., 1, 2]) / K[..., 1, 1]
        dirs = torch.stack([dirs_x, dirs_y, torch.ones_like(dirs_x)], -1)
        c2w = self.c2w[..., None, None, :, :]
        rays_d = (c2w[..., :3, :3] @ dirs[..., None])[..., 0]
        return c2w[..., :3, 3].expand_as(rays_d), rays_d

    def project(
        self, points: Float[Tensor, "*b m 3"]
    ) -> tuple[Float[Tensor, "*v m 2"], Float[Tensor, "*v m"]]:
        """Compute pixel coordinates and depths (z) of world points in every camera."""
        rotmats, translations = self.viewmats[..., :3, :3], self.viewmats[..., :3, 3]
        if points.ndim < self.viewmats.ndim:  # there is an axis of cameras
            points = points[..., None, :, :]
        local = points @ rotmats.mT + translations[..., None, :]
        depth = local[..., 2]
        focal = torch.stack([self.Ks[..., 0, 0], self.Ks[..., 1, 1]], -1)
        center = self.Ks[..., :2, 2]
        means2d = local[..., :2] / depth[..., None] * focal[..., None, :] + center[..., None, :]
        return means2d, depth

    def contains(
        self, pixels: Float[Tensor, "*b m 2"], depth: Float[Tensor, "*b m"]
    ) -> Bool[Tensor, "*b m"]:
        """Return whether projected points lie in front of the camera and within its image.

        Args:
            pixels: Positions in the image, as `project` returns them.
            depth: z of the points.
        """
        x, y = pixels.unbind(-1)
        return (depth > 0) & (x >= 0) & (y >= 0) & (x < self.width) & (y < self.height)


def _check_poses(name: str, poses: Tensor) -> None:
    _check_matrices(name, poses, 4)
    if poses.shape[-2:] != (4, 4):
        shape = tuple(poses.shape)
        append = "; append the row (0, 0, 0, 1)" if shape[-2:] == (3, 4) else ""
        raise ValueError(f"{name} has shape {shape}, expected (*v, 4, 4){append}")


def _check_intrinsics(Ks: Tensor, poses: Tensor) -> None:
    _check_matrices("Ks", Ks, 3)
    views = tuple(poses.shape[:-2])
    fits = Ks.shape[-2:] == (3, 3) and Ks.ndim <= poses.ndim
    # Trailing axes are compared first, as broadcasting does.
    pairs = zip(reversed(Ks.shape[:-2]), reversed(views), strict=False)
    if not fits or any(own not in (1, view) for own, view in pairs):
        raise ValueError(
            f"Ks has shape {tuple(Ks.shape)}, expected {(*views, 3, 3)} or (3, 3) for all"
        )
    focal = Ks.diagonal(dim1=-2, dim2=-1)[..., :2]
    # On a GPU the question would wait for everything before it.
    if Ks.device.type == "cpu" and not bool((focal > 0).all()):
        raise ValueError("Ks has focal lengths that are not positive")


def _check_matrices(name: str, matrices: Tensor, side: int) -> None:
    if not isinstance(matrices, Tensor):
        raise TypeError(f"{name} is a {type(matrices).__name__}, expected a tensor")
    if not matrices.is_floating_point():
        raise ValueError(
            f"{name} is {matrices.dtype}, expected a floating-point [{side} {side}]; cast it with "
            ".float()"
        )


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ValueError(f"the images have {width} x {height} px, expected at least 1 x 1")


def _inverse(poses: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """Invert rigid transforms in closed form (R^T, -R^T t)."""
    rotmats, translations = poses[..., :3, :3], poses[..., :3, 3:]
    top = torch.cat([rotmats.mT, -rotmats.mT @ translations], -1)
    return torch.cat([top, poses[..., 3:, :]], -2)


def camera_centers(viewmats: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 3"]:
    """Compute optical centres in the world frame (-R^T t)."""
    return -(viewmats[..., :3, :3].mT @ viewmats[..., :3, 3:])[..., 0]


def pixel_centers(
    height: int, width: int, like: Tensor
) -> tuple[Float[Tensor, "h w"], Float[Tensor, "h w"]]:
    """Return (y, x) of the pixel centres, with the dtype and device of `like`."""
    y = torch.arange(height, dtype=like.dtype, device=like.device) + 0.5
    x = torch.arange(width, dtype=like.dtype, device=like.device) + 0.5
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return rows, columns


def look_at(
    position: Float[Tensor, "3"], target: Float[Tensor, "3"], up: Float[Tensor, "3"] | None = None
) -> Float[Tensor, "4 4"]:
    """Build the view matrix of a camera at `position` that looks at `target`.

    Its x axis is level with respect to `up` (z by default). If it looks along `up`, every x axis
    is: it is level with respect to another axis of the world, too.

    Raises:
        ValueError: target and position are equal, `up` is zero, or a value is not finite.
    """
    if up is None:
        up = position.new_tensor([0.0, 0.0, 1.0])
    ahead = target - position
    forward = ahead / _length("target - position", ahead)
    level = torch.linalg.cross(forward, up)
    if float(level.norm()) < PARALLEL * _length("up", up):
        axis = torch.eye(3).to(forward)[int(forward.abs().argmin())]
        level = torch.linalg.cross(forward, axis)
    right = level / level.norm()
    viewmat = torch.eye(4).to(position)
    viewmat[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward])
    viewmat[:3, 3] = -viewmat[:3, :3] @ position
    return viewmat


def _length(name: str, vector: Float[Tensor, "3"]) -> float:
    length = float(vector.norm())
    if not 0 < length < math.inf:
        raise ValueError(f"{name} is {tuple(vector.tolist())}, expected a direction")
    return length
