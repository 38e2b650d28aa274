"""The sample capture: a still life on a table, ray-cast.

python -m training.data.sample_scene assets/sample
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from render import Cameras
from render.cameras import look_at
from render.video import to_bytes
from training.data import textures
from training.data.primitives import FAR, Box, Cylinder, Solid, Sphere
from training.programs import output_folder, program

WIDTH_PX, HEIGHT_PX = 512, 384
FOCAL_PX, CENTER_PX = 560.0, (250.0, 197.0)
VIEWS = 8
ARC_DEG = 46.0
LOOK_AT = (0.05, 0.25, 0.42)
SUPERSAMPLING = 2
# Chunks that fit into the processor's caches are ten times as fast as all rays at once.
RAYS_PER_CHUNK = 8192
LIGHT = (-1.6, -2.6, 4.2)
LIGHT_RADIUS = 0.45
SPLITS = {"2v": ([2, 4], [3]), "4v": ([0, 2, 4, 6], [1, 3, 5])}


@dataclass(frozen=True)
class SampleImage:
    """One view of the sample scene."""

    rgb: Float[Tensor, "3 h w"]
    """Display sRGB in [0, 1]."""
    depth: Float[Tensor, "h w"]
    """z of the first hit at the pixel centre, world units."""


def _small_bricks(points: Tensor) -> Tensor:
    return textures.bricks(2 * (points[:, 0] + points[:, 1]), 2 * points[:, 2], 2 * points)


def sample_solids() -> list[Solid]:
    """Return a table with objects in front of walls. World: z up, table top at z = 0."""
    return [
        Box((0.0, 0.3, -0.1), (4.4, 3.2, 0.2), 0.0, textures.wood),
        Box((0.0, 2.6, 1.5), (9.0, 0.2, 7.0), 0.0, lambda p: textures.bricks(p[:, 0], p[:, 2], p)),
        Box((-3.2, 0.0, 1.5), (0.2, 9.0, 7.0), 0.0, textures.plaster),
        Box((3.4, 0.0, 1.5), (0.2, 9.0, 7.0), 0.0, textures.plaster),
        Box((0.0, 0.0, -1.6), (12.0, 12.0, 0.2), 0.0, lambda p: textures.moss(p * 0.5)),
        Sphere((-0.62, 0.42, 0.42), 0.42, textures.marble),
        Sphere((0.34, -0.42, 0.17), 0.17, textures.rock),
        Sphere((-0.38, -0.52, 0.12), 0.12, textures.moss),
        Sphere((1.34, 0.06, 0.22), 0.22, textures.marble),
        Box((0.62, 0.62, 0.35), (0.62, 0.62, 0.70), 28.0, textures.checks),
        Box((0.62, 0.62, 0.83), (0.26, 0.26, 0.26), 55.0, textures.rock),
        Box((-1.42, 0.95, 0.55), (0.36, 0.5, 1.1), -18.0, _small_bricks),
        Cylinder((-0.02, 1.05, 0.0), 0.22, 0.95, textures.stripes),
        Cylinder((-1.12, -0.12, 0.0), 0.16, 0.34, textures.stripes),
        Cylinder((1.12, 0.95, 0.0), 0.17, 0.55, textures.moss),
    ]  # fmt: skip


def sample_cameras(width: int = WIDTH_PX, height: int = HEIGHT_PX) -> Cameras:
    """Return the cameras of all views, on an arc around the table (float64)."""
    target = torch.tensor(LOOK_AT).double()
    viewmats = []
    for i in range(VIEWS):
        angle = math.radians((i / (VIEWS - 1) - 0.5) * ARC_DEG)
        rise = 1.35 + 0.16 * math.sin(2.1 * i)
        position = torch.tensor([3.7 * math.sin(angle), -3.7 * math.cos(angle), rise]).double()
        viewmats.append(look_at(position, target))
    cameras = Cameras.from_focal(
        torch.stack(viewmats), FOCAL_PX, WIDTH_PX, HEIGHT_PX, center_px=CENTER_PX
    )
    return cameras.resized(width, height)


def render_sample(camera: Cameras, supersampling: int = SUPERSAMPLING) -> SampleImage:
    """Ray-cast one view (Cameras with one view, float64)."""
    solids = sample_solids()
    fine = camera.resized(camera.width * supersampling, camera.height * supersampling)
    rays_o, rays_d = fine.rays()
    bundles = zip(
        rays_o.reshape(-1, 3).split(RAYS_PER_CHUNK),
        rays_d.reshape(-1, 3).split(RAYS_PER_CHUNK),
        strict=True,
    )
    colors = torch.cat([_shade(solids, origins, dirs) for origins, dirs in bundles])
    image = colors.T.reshape(1, 3, fine.height, fine.width)
    rgb = torch.nn.functional.avg_pool2d(image, supersampling)[0]
    rays_o, rays_d = camera.rays()
    # rays_d has unit depth, so the ray parameter is z.
    depth, _, _ = _first_hit(solids, rays_o.reshape(-1, 3), rays_d.reshape(-1, 3))
    return SampleImage(rgb.float(), depth.reshape(camera.height, camera.width).float())


def _first_hit(solids: list[Solid], origins: Tensor, dirs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ray parameter, normal and index of the nearest solid."""
    hits = [solid.hit(origins, dirs) for solid in solids]
    t, which = torch.stack([hit[0] for hit in hits]).min(0)
    normals = torch.stack([hit[1] for hit in hits])
    return t, normals[which, torch.arange(len(which))], which


def _shade(solids: list[Solid], origins: Tensor, dirs: Tensor) -> Float[Tensor, "n 3"]:
    """Shade with a lamp that casts soft shadows and with sky light; display sRGB."""
    t, normals, which = _first_hit(solids, origins, dirs)
    points = origins + t[:, None] * dirs
    albedo = torch.zeros_like(points)
    for i, solid in enumerate(solids):
        mine = which == i
        if mine.any():
            albedo[mine] = solid.texture(points[mine])
    start = points + 1e-4 * normals
    lamp = torch.zeros_like(t)
    for k in range(4):
        angle = 2 * math.pi * (k + 0.5) / 4
        jitter = torch.tensor([math.cos(angle), math.sin(angle), 0.0]) * LIGHT_RADIUS
        toward = torch.tensor(LIGHT).double() + jitter.double() - start
        free = _first_hit(solids, start, toward)[0] >= 1.0
        cosine = torch.nn.functional.cosine_similarity(toward, normals, dim=-1).clamp_min(0)
        lamp += free * cosine * 14.0 / (toward * toward).sum(-1) / 4
    # Open sky above, dimmed where the table or a solid is near overhead.
    blocker = _first_hit(solids, start, torch.tensor([0.12, -0.25, 1.0]).double().expand_as(start))[
        0
    ]
    sky = (0.5 + 0.5 * normals[:, 2]) * torch.where(
        blocker < FAR, 0.55 + 0.3 * (blocker / 1.5).clamp_max(1), 1.0
    )
    linear = albedo**2.2 * (0.85 * lamp + 0.34 * sky + 0.10)[:, None]
    return linear.clamp(0, 1) ** (1 / 2.2)


def write_sample(folder: Path) -> None:
    """Write photos, transforms.json (nerfstudio layout) and splits.json of the sample capture."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    cameras = sample_cameras()
    names = [f"images/{i:03d}.jpg" for i in range(VIEWS)]
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])).double()
    frames = []
    for i, name in enumerate(names):
        rgb = render_sample(cameras[[i]]).rgb
        Image.fromarray(to_bytes(rgb)).save(folder / name, quality=92, subsampling=0)
        matrix = (cameras.c2w[i] @ flip).tolist()
        frames.append({"file_path": name, "transform_matrix": matrix})
    document = {
        "camera_model": "PINHOLE",
        "w": WIDTH_PX,
        "h": HEIGHT_PX,
        "fl_x": FOCAL_PX,
        "fl_y": FOCAL_PX,
        "cx": CENTER_PX[0],
        "cy": CENTER_PX[1],
        "frames": frames,
    }
    splits = {
        split: {"context": [names[i] for i in context], "target": [names[i] for i in target]}
        for split, (context, target) in SPLITS.items()
    }
    (folder / "transforms.json").write_text(json.dumps(document, indent=1) + "\n")
    (folder / "splits.json").write_text(json.dumps(splits, indent=1) + "\n")


@program
def main(words: Sequence[str] | None = None) -> None:
    """Write the sample to a folder."""
    write_sample(output_folder(__doc__, words))


if __name__ == "__main__":
    main()
