"""Choice of the source views that a view is matched with."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from recon.model.mvs.warp import Warp, inside
from render import Cameras

# Angle between two rays to a point at which matching works best: smaller angles localise it
# poorly, larger ones change its appearance (as in COLMAP's and MVSNet's scores).
BEST_ANGLE_DEG = 12.0
# Angles and scales this many octaves away from the best have a weight of 0.6.
ANGLE_OCTAVES, SCALE_OCTAVES = 1.5, 1.0
# Image side at which the overlap of two views is measured (px).
OVERLAP_PX = 32


def nearest_views(cameras: Cameras, count: int) -> list[list[int]]:
    """For each view choose the `count` views nearest in position and direction."""
    centers, axes = cameras.centers, cameras.viewmats[:, 2, :3]
    distance = torch.cdist(centers, centers)
    typical = distance[distance > 0].median() if (distance > 0).any() else distance.new_ones(())
    rotation = 1 - axes @ axes.T
    cost = distance / typical + 4 * rotation
    # A camera at the same position gives no parallax.
    cost = cost + 1e3 * (distance < 1e-6 * typical)
    cost.fill_diagonal_(float("inf"))
    return _best(-cost, count)


def select_sources(cameras: Cameras, depth: Float[Tensor, " v"], count: int) -> list[list[int]]:
    """For each view choose the `count` views with the best overlap, angle and scale.

    Overlap is measured at the view's middle depth; a useful angle is near `BEST_ANGLE_DEG`, a
    useful scale near 1.

    Args:
        cameras: Cameras of one scene, at any size.
        depth: Middle depth of each view (z, world units).
        count: Number of source views, at most.

    Returns:
        Indices of the source views of each view, best first.
    """
    views = len(cameras)
    score = torch.full((views, views), -1.0, device=cameras.device)
    origins, directions = cameras.rays()
    for v in range(views):
        points = origins[v] + depth[v] * directions[v]
        for s in range(views):
            if s == v:
                continue
            pixels, ratio = Warp.between(cameras, v, s).pixels(1 / depth[v].reshape(1, 1))
            overlap = inside(pixels, ratio, cameras.width, cameras.height)
            # Per pixel: for a camera straight ahead only the centre has no angle.
            cosine = cosine_similarity(points - origins[v], points - cameras.centers[s], dim=-1)
            angle = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
            octaves = (angle.clamp_min(0.05) / BEST_ANGLE_DEG).log2() / ANGLE_OCTAVES
            zoom = ratio.clamp_min(1e-3).log2() / SCALE_OCTAVES
            useful = torch.exp(-0.5 * (octaves.square() + zoom.square()))
            score[v, s] = (overlap * useful).mean()
    return _best(score, count)


def batch_sources(cameras: Cameras, depth: Float[Tensor, "b v"], count: int) -> Int[Tensor, "n s"]:
    """Choose the source views of every view of a batch, as indices into its flattened views.

    They are all other views of the scene if there are at most `count`, else the best by
    `select_sources`.
    """
    scenes, views = depth.shape
    if views - 1 <= count:
        index = torch.arange(views)
        chosen = torch.stack([index[index != v] for v in range(views)]).expand(scenes, -1, -1)
    else:
        small = cameras.resized(OVERLAP_PX, OVERLAP_PX)
        by_scene = zip(small.viewmats, small.Ks, depth, strict=True)
        chosen = torch.tensor(
            [
                select_sources(replace(small, viewmats=viewmats, Ks=Ks), middle, count)
                for viewmats, Ks, middle in by_scene
            ]
        )
    first = views * torch.arange(scenes)[:, None, None]
    return (chosen + first).flatten(0, 1).to(depth.device)


def _best(score: Float[Tensor, "v v"], count: int) -> list[list[int]]:
    order = score.argsort(dim=1, descending=True, stable=True)
    wanted = min(count, score.shape[0] - 1)
    return [row[:wanted] for row in order.tolist()]
