"""Initial Gaussians of an optimisation: coloured points as isotropic Gaussians."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture.isolated import run_script
from recon.errors import InputError
from recon.files import temporary_folder
from recon.model.mvs.depth_range import estimate_depth_range
from recon.types import Views
from render import Gaussians
from render.sh import colors_to_sh
from render.video import write_image

# Initial opacity of MCMC (Kheradmand et al. 2024, section 4.1).
OPACITY = 0.5
# Initial size relative to the distance of the nearest points, as in gsplat's trainer for MCMC.
SFM_SIZE = 0.1
# Time limit of the triangulation (s).
SFM_LIMIT_S = 1800.0


def random_points(views: Views, count: int, seed: int) -> Gaussians:
    """Draw points uniformly over pixels and over disparity between near and far.

    Colours are random; sizes fill the gaps between neighbouring points.
    """
    generator = torch.Generator().manual_seed(seed)
    depths = estimate_depth_range(views)
    v, _, h, w = views.images.shape
    view = torch.randint(v, (count,), generator=generator)
    row = torch.randint(h, (count,), generator=generator)
    column = torch.randint(w, (count,), generator=generator)
    near, far = 1 / depths.near[view], 1 / depths.far[view]
    depth = 1 / (far + torch.rand(count, generator=generator) * (near - far))
    origins, rays = views.cameras.rays()
    means = origins[view, row, column] + depth[:, None] * rays[view, row, column]
    focal = views.cameras.Ks[view, 0, 0]
    gap = depth / focal * (v * h * w / count) ** 0.5
    colors = torch.rand(count, 3, generator=generator)
    return _isotropic(means, gap, colors_to_sh(colors))


def surface_points(gaussians: Gaussians, views: Views) -> Gaussians:
    """Keep only the positions and colours of a prediction; sizes are those of a pixel there."""
    distance = torch.cdist(gaussians.means, views.cameras.centers).amin(1)
    sizes = distance / views.cameras.Ks[:, 0, 0].mean()
    return _isotropic(gaussians.means, sizes, gaussians.sh[:, :1])


def sfm_points(views: Views) -> Gaussians:
    """Triangulate features of COLMAP with the views' cameras, as 3DGS starts.

    Sizes are a fraction of the root mean square distance to the three nearest points.
    """
    with temporary_folder() as folder:
        images, cameras, points = folder / "images", folder / "cameras.json", folder / "points.npz"
        cameras.write_text(json.dumps(_write_images(views, images)))
        arguments = [str(images), str(cameras), str(points)]
        reason = run_script("sfm_triangulate.py", arguments, SFM_LIMIT_S)
        if reason is not None:
            raise InputError(f"the points of COLMAP could not be triangulated: {reason}")
        with np.load(points, allow_pickle=False) as found:
            means = torch.from_numpy(found["xyz"]).float()
            colors = torch.from_numpy(found["rgb"]) / 255
    if len(means) < 4:
        raise InputError(
            f"COLMAP triangulated {len(means)} points; expected 4 or more to start from"
        )
    chunks = [torch.cdist(part, means).topk(4, largest=False).values for part in means.split(4096)]
    nearest = torch.cat(chunks)[:, 1:]
    sizes = SFM_SIZE * nearest.square().mean(1).sqrt()
    return _isotropic(means, sizes, colors_to_sh(colors))


def _write_images(views: Views, folder: Path) -> dict[str, dict[str, list[Any]]]:
    """Write the images of views, and return their cameras by name."""
    folder.mkdir()
    cameras = {}
    for v in range(len(views)):
        write_image(folder / f"{v:05d}.png", views.images[v])
        K = views.cameras.Ks[v]
        intrinsics = [float(value) for value in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])]
        viewmat = views.cameras.viewmats[v].tolist()
        cameras[f"{v:05d}.png"] = {"intrinsics": intrinsics, "viewmat": viewmat}
    return cameras


def random_subset(gaussians: Gaussians, count: int, seed: int) -> Gaussians:
    """Keep at most `count` Gaussians, drawn at random."""
    order = torch.randperm(len(gaussians), generator=torch.Generator().manual_seed(seed))
    return gaussians[order[:count]]


def _isotropic(
    means: Float[Tensor, "n 3"], sizes: Float[Tensor, " n"], sh: Float[Tensor, "n k 3"]
) -> Gaussians:
    return Gaussians(
        means=means,
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(len(means), 1),
        scales=sizes[:, None].repeat(1, 3),
        opacities=torch.full((len(means),), OPACITY),
        sh=sh,
    )
