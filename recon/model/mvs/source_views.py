"""Which other views help to find the depth of a view?"""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cosine_similarity

from recon.model.mvs.warp import Warp, inside
from render import Cameras

# Angle between two rays to a point at which matching works best: smaller angles
# place it badly, larger ones change its look (as in COLMAP's and MVSNet's scores).
BEST_ANGLE_DEG = 12.0
# Angles and sizes that many octaves away from the best count for 0.6.
ANGLE_OCTAVES, SIZE_OCTAVES = 1.5, 1.0
# Points a side that tell how much two views share.
OVERLAP_PX = 32


def nearest_views(cameras: Cameras, count: int) -> list[list[int]]:
    """For each view the `count` views that look from near by in a similar direction."""
    centers, axes = cameras.centers, cameras.viewmats[:, 2, :3]
    distance = torch.cdist(centers, centers)
    typical = distance[distance > 0].median() if (distance > 0).any() else distance.new_ones(())
    turn = 1 - axes @ axes.T
    cost = distance / typical + 4 * turn
    # A camera at the same place gives no parallax.
    cost = cost + 1e3 * (distance < 1e-6 * typical)
    cost.fill_diagonal_(float("inf"))
    return _best(-cost, count)


def select_sources(cameras: Cameras, depth: Float[Tensor, "v"], count: int) -> list[list[int]]:
    """For each view the `count` views that share most of what it sees at its middle depth, from
    a useful angle and at a similar size."""
    views = len(cameras)
    score = torch.full((views, views), -1.0, device=cameras.device)
    origins, directions = cameras.rays()
    for v in range(views):
        points = origins[v] + depth[v] * directions[v]
        for s in range(views):
            if s == v:
                continue
            pixels, ratio = Warp.between(cameras, v, s).pixels(1 / depth[v].reshape(1, 1))
            shared = inside(pixels, ratio, cameras.width, cameras.height)
            # Pixel by pixel: a camera straight ahead sees only the middle from no angle at all.
            cosine = cosine_similarity(points - origins[v], points - cameras.centers[s], dim=-1)
            angle = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
            octaves = (angle.clamp_min(0.05) / BEST_ANGLE_DEG).log2() / ANGLE_OCTAVES
            zoom = ratio.clamp_min(1e-3).log2() / SIZE_OCTAVES
            useful = torch.exp(-0.5 * (octaves.square() + zoom.square()))
            score[v, s] = (shared * useful).mean()
    return _best(score, count)


def choose_sources(cameras: Cameras, depth: Float[Tensor, "b v"], count: int) -> Int[Tensor, "n s"]:
    """Whom each view is matched with, as numbers in the flat row of all scenes' views: all other
    views of its scene if they are few, else the best by `select_sources`."""
    scenes, views = depth.shape
    if views - 1 <= count:
        everyone = torch.arange(views)
        chosen = torch.stack([everyone[everyone != v] for v in range(views)]).expand(scenes, -1, -1)
    else:
        small = cameras.resized(OVERLAP_PX, OVERLAP_PX)
        each = zip(small.viewmats, small.Ks, depth, strict=True)
        chosen = torch.tensor(
            [
                select_sources(replace(small, viewmats=viewmats, Ks=Ks), middle, count)
                for viewmats, Ks, middle in each
            ]
        )
    first = views * torch.arange(scenes)[:, None, None]
    return (chosen + first).flatten(0, 1).to(depth.device)


def _best(score: Float[Tensor, "v v"], count: int) -> list[list[int]]:
    order = score.argsort(dim=1, descending=True, stable=True)
    wanted = min(count, score.shape[0] - 1)
    return [row[:wanted] for row in order.tolist()]
