"""Objective of the compression: the loss of PSNR at cameras that nothing was optimised for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from recon.types import Views
from render import Cameras, Gaussians, RasterizeSettings, rasterize
from render.cameras import look_at
from render.paths import focus_point, interpolate

SETTINGS = RasterizeSettings(render_mode="RGB")
# Assumed upper bound of a scene's own quality at novel views (PSNR, dB), however well it agrees
# with the photos that it was made from.
MAX_PSNR_DB = 30.0
# Position of training and evaluation cameras on the way to a camera's neighbour.
TRAIN_FRACTION, EVAL_FRACTION = 1 / 3, 1 / 2
# Directions to the corners of a tetrahedron, in camera axes (right, down, forward).
TETRAHEDRON = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))
# Largest displacement of a camera, as a fraction of the distance to its focus point.
MAX_DISPLACEMENT = 0.15


@dataclass(frozen=True)
class RateDistortionObjective:
    """Reference renderings of the original scene, for fine-tuning and for evaluation."""

    train_views: Views
    """Renderings to fine-tune smaller scenes on; their masks are the opacities."""
    eval_cameras: Cameras
    eval_images: Float[Tensor, "e 3 h w"]
    """Renderings of the original scene from `eval_cameras`, clipped to [0, 1]."""
    eval_groups: Int[Tensor, " e"]
    """Index of each evaluation camera's group; the group with the largest error counts."""
    scene_error: float
    """Mean squared error of the original scene: measured on photos, or assumed."""
    settings: RasterizeSettings
    """How scenes are rendered."""

    @staticmethod
    def of(
        scene: Gaussians,
        *groups: Cameras,
        photos: Views | None = None,
        antialiased: bool = False,
    ) -> "RateDistortionObjective":
        """Render the original scene.

        Training views are rendered from the cameras and from a third of the way to their
        neighbours; with photos also from around each camera, because Gaussians that are occluded
        in the photos and between them may be visible from elsewhere. Evaluation cameras are the
        cameras and the midpoints between neighbours, which are not used for training.

        Args:
            scene: The original scene.
            groups: Cameras of images of one size; each group is evaluated separately.
            photos: Photos of all cameras in order, to measure the error of the scene itself.
            antialiased: Whether the scene is for rendering with the 2D filter of Mip-Splatting.
        """
        settings = replace(SETTINGS, antialiased=antialiased)

        def render(cameras: Cameras) -> Float[Tensor, "v 4 h w"]:
            outputs = [rasterize(scene, camera, settings=settings) for camera in cameras]
            return torch.stack([torch.cat([each.rgb, each.alpha]) for each in outputs])

        error = 10 ** (-MAX_PSNR_DB / 10)
        cameras = Cameras.cat(groups)
        images = render(cameras)
        extra = [cameras_between(group, TRAIN_FRACTION) for group in groups]
        if photos is not None:
            squared = (images[:, :3].clamp(0, 1) - photos.images).square() * photos.valid
            error = max(float(squared.sum() / (3 * photos.valid.sum())), error)
            extra.append(cameras_around(scene, cameras, TRAIN_FRACTION))
        train_cameras, train_images = _with_extra(render, cameras, images, extra)
        midpoints = [cameras_between(group, EVAL_FRACTION) for group in groups]
        eval_cameras, eval_images = _with_extra(render, cameras, images, midpoints)
        colors, alphas = train_images.split([3, 1], 1)
        names = tuple(str(index) for index in range(len(train_cameras)))
        return RateDistortionObjective(
            train_views=Views(colors, alphas, torch.ones_like(alphas), train_cameras, names),
            eval_cameras=eval_cameras,
            eval_images=eval_images[:, :3].clamp(0, 1),
            eval_groups=_group_indices(groups, midpoints),
            scene_error=error,
            settings=settings,
        )

    def loss_db(self, scene: Gaussians) -> float:
        """Estimate how much lower the PSNR of a changed scene is against the true images.

        The mean squared change adds to the original scene's own error, as if both were
        uncorrelated.
        """
        return 10 * math.log10(1 + self.change(scene) / self.scene_error)

    def change(self, scene: Gaussians) -> float:
        """Compute the mean squared difference from the original scene's images.

        Images are clipped to [0, 1] as on a screen; the largest mean of a group is returned.
        """
        changed = torch.zeros(len(self.eval_cameras), dtype=torch.float64)
        for view in range(len(self.eval_cameras)):
            camera = self.eval_cameras[[view]]
            image = rasterize(scene, camera, settings=self.settings).rgb[0].clamp(0, 1)
            changed[view] = (image - self.eval_images[view]).square().mean()
        groups = self.eval_groups.unique()
        return max(float(changed[self.eval_groups == group].mean()) for group in groups)


def cameras_between(cameras: Cameras, fraction: float) -> Cameras | None:
    """Move each camera a fraction of the way to its nearest neighbour; None for one camera."""
    if len(cameras) < 2:
        return None
    nearest = _distances(cameras).argmin(1)
    steps = round(1 / fraction)
    moved = [
        interpolate(cameras[[i, int(nearest[i])]], steps + 1)[[1]] for i in range(len(cameras))
    ]
    return Cameras.cat(moved)


def cameras_around(scene: Gaussians, cameras: Cameras, fraction: float) -> Cameras:
    """Add four cameras around each one, with the same focus point.

    The displacement is a fraction of the distance to the nearest neighbour, up to
    MAX_DISPLACEMENT of the distance to the focus point.
    """
    steps = fraction * _distances(cameras).min(1).values
    moved = []
    for i in range(len(cameras)):
        camera = cameras[[i]]
        focus = focus_point(scene, camera)
        largest = MAX_DISPLACEMENT * float((focus - camera.centers[0]).norm())
        step = min(float(steps[i]), largest)
        for corner in TETRAHEDRON:
            direction = normalize(camera.centers.new_tensor(corner), dim=0)
            moved.append(_displaced(camera, direction * step, focus))
    return Cameras.cat(moved)


def _distances(cameras: Cameras) -> Float[Tensor, "v v"]:
    """Compute the distances between cameras; infinite on the diagonal."""
    return torch.cdist(cameras.centers, cameras.centers).fill_diagonal_(torch.inf)


def _displaced(camera: Cameras, offset: Float[Tensor, "3"], focus: Float[Tensor, "3"]) -> Cameras:
    """Move a camera along its own axes and rotate it towards a point."""
    down, c2w = camera.viewmats[0, 1, :3], camera.viewmats[0, :3, :3].mT
    viewmat = look_at(camera.centers[0] + c2w @ offset, focus, -down)
    return replace(camera, viewmats=viewmat[None])


def _group_indices(*parts: Sequence[Cameras | None]) -> Int[Tensor, " e"]:
    """List the group of each camera, in parts that each hold all groups in order."""
    counts = [
        (group, len(cameras))
        for part in parts
        for group, cameras in enumerate(part)
        if cameras is not None
    ]
    return torch.tensor([group for group, count in counts for _ in range(count)])


def _with_extra(
    render: Callable[[Cameras], Float[Tensor, "v 4 h w"]],
    cameras: Cameras,
    images: Float[Tensor, "v 4 h w"],
    extra: Sequence[Cameras | None],
) -> tuple[Cameras, Float[Tensor, "m 4 h w"]]:
    """Append more cameras and their renderings to those of `cameras`."""
    found = [part for part in extra if part is not None]
    return Cameras.cat([cameras, *found]), torch.cat([images, *map(render, found)])
