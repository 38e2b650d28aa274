"""How near meshes of scenes come to the exact surfaces that the photos see.

python -m training.evaluation.surfaces sample 6 9 11 --quality draft --save /tmp/meshes

A scene is the sample capture or the seed of a procedural one, of which 8 photos are made. Its size
is the diagonal of the bounding box of the surface that they see. Poisson reconstruction is measured
if open3d is installed.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from recon.config import ReconstructConfig
from recon.errors import InputError
from recon.meshing.depth_maps import DepthMap, render_depth_maps
from recon.meshing.extract import MeshConfig, extract_mesh
from recon.meshing.files import write_mesh
from recon.meshing.triangles import TriangleMesh, library, seen_surface
from recon.meshing.viewpoints import with_midpoints
from recon.meshing.volume import fuse
from recon.pipeline import reconstruct
from recon.precision import WORLD
from recon.reporting import say
from recon.scene import Scene
from recon.types import Views
from render import Cameras
from training.data.procedural import ProceduralConfig, generate
from training.data.procedural.bank import make_bank
from training.data.procedural.cast import NEVER
from training.data.sample_scene import render_sample, sample_cameras
from training.data.types import SampleRequest
from training.programs import check_outputs, make_folder, program, write_numbers

VIEWS, WIDTH_PX, HEIGHT_PX = 8, 512, 384
# Distance between the cameras of procedural scenes, relative to what training has.
BASELINE = 1.5
# Distance up to which a point is right, and between the points of the surface (sizes).
THRESHOLD, SPACING = 0.01, 0.002
MESH_POINTS = 100_000
# Depth of the octree of Poisson reconstruction, and fraction of vertices of low density to remove.
POISSON_DEPTH, POISSON_TRIM = 9, 0.05


@dataclass(frozen=True)
class SurfaceScores:
    """Agreement of a mesh with the surface that the photos see."""

    scene: str
    method: str
    precision: float
    """Fraction of points of the mesh within the threshold of the surface."""
    recall: float
    """Fraction of points of the surface within the threshold of the mesh."""
    f_score: float
    """Harmonic mean of both."""
    triangles: int


def exact_views(name: str) -> tuple[Views, Float[torch.Tensor, "v h w"]]:
    """Return photos of a scene with cameras, and their exact depths (infinite in the sky).

    Raises:
        InputError: There is no scene of this name.
    """
    if name == "sample":
        cameras = sample_cameras()
        made = [render_sample(cameras[[index]]) for index in range(VIEWS)]
        images = torch.stack([view.rgb for view in made])
        depth = torch.stack([view.depth for view in made])
        return _views(images, cameras.to(torch.float32)), depth
    if not name.isdecimal():
        raise InputError(f"no scene {name!r}; expected sample, or the seed of a procedural scene")
    request = SampleRequest(int(name), VIEWS, 0, WIDTH_PX, HEIGHT_PX, BASELINE)
    config = ProceduralConfig(supersampling=2, exposure=0.0, noise=0.0)
    made_views = generate(request, config, make_bank())
    # Depths are limited to `far`, the depth of the sky.
    sky = made_views.depth >= made_views.far[:, None, None]
    depth = made_views.depth.masked_fill(sky, NEVER)
    return _views(made_views.images, made_views.cameras), depth


def _views(images: Float[torch.Tensor, "v 3 h w"], cameras: Cameras) -> Views:
    ones = torch.ones_like(images[:, :1])
    return Views(images, ones, ones, cameras, tuple(map(str, range(len(images)))))


def surface_points(views: Views, depth: Float[torch.Tensor, "v h w"]) -> tuple[np.ndarray, float]:
    """Return points of the surface that photos see, evenly spread, and its size."""
    origins, dirs = views.cameras.rays()
    points = (origins + depth[..., None] * dirs)[depth < NEVER].double().numpy()
    size = float(np.linalg.norm(np.ptp(points, axis=0)))
    cells = np.floor(points / (SPACING * size)).astype(np.int64)
    first = np.unique(cells, axis=0, return_index=True)[1]
    return points[first], size


def score(
    scene: str, method: str, mesh: TriangleMesh, points: Float[np.ndarray, "n 3"], size: float
) -> SurfaceScores:
    """Compare a mesh with the points of a surface."""
    tree = library("scipy.spatial").cKDTree
    found = sampled(mesh, MESH_POINTS)
    limit = THRESHOLD * size
    precision = float((tree(points).query(found)[0] < limit).mean())
    recall = float((tree(found).query(points)[0] < limit).mean())
    f_score = 2 * precision * recall / max(precision + recall, 1e-12)
    return SurfaceScores(scene, method, precision, recall, f_score, len(mesh.faces))


def sampled(mesh: TriangleMesh, count: int) -> Float[np.ndarray, "n 3"]:
    """Return points of a mesh, evenly spread by area."""
    rng = np.random.default_rng(0)
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(area), count, p=area / area.sum())
    root, along = np.sqrt(rng.random((count, 1))), rng.random((count, 1))
    return np.asarray(
        (1 - root) * a[chosen] + root * (1 - along) * b[chosen] + root * along * c[chosen]
    )


def network_mesh(scene: Scene, views: Views) -> TriangleMesh:
    """Fuse the depth maps of the network directly."""
    assert scene.depth is not None and scene.confidence is not None and scene.cameras is not None
    indices = scene.geometry_views or tuple(range(len(scene.cameras)))
    height, width = scene.depth.shape[1:]
    maps = [
        DepthMap(scene.cameras[[i]].resized(width, height), depth, confidence, views.images[i])
        for i, depth, confidence in zip(indices, scene.depth, scene.confidence, strict=True)
    ]
    return seen_surface(fuse(maps, lambda done: None), len(maps))


def poisson_mesh(maps: list[DepthMap]) -> TriangleMesh:
    """Reconstruct a surface from the points of depth maps (Kazhdan & Hoppe 2013, by open3d)."""
    open3d: Any = library("open3d")
    cloud = open3d.geometry.PointCloud()
    for each in maps:
        origins, dirs = (rays[0] for rays in each.camera.rays())
        solid = each.confidence > 0
        points = (origins + each.depth[..., None] * dirs)[solid].double().numpy()
        part = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points))
        part.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(20))
        part.orient_normals_towards_camera_location(each.camera.centers[0].double().numpy())
        cloud += part
    mesh, density = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
        cloud, depth=POISSON_DEPTH
    )
    values = np.asarray(density)
    mesh.remove_vertices_by_mask(values < np.quantile(values, POISSON_TRIM))
    return TriangleMesh(np.asarray(mesh.vertices), np.asarray(mesh.triangles).astype(np.int64))


@torch.no_grad()
def evaluate(name: str, config: ReconstructConfig, folder: Path | None) -> list[SurfaceScores]:
    """Reconstruct a scene, make meshes of it by all methods, and compare them."""
    views, depth = exact_views(name)
    points, size = surface_points(views, depth)
    with torch.enable_grad():
        scene = reconstruct(views, config)
    cameras = with_midpoints([views.cameras[[index]] for index in range(VIEWS)])
    mesh = extract_mesh(scene.gaussians, cameras, MeshConfig(colors=folder is not None))
    meshes = {"recon mesh": mesh, "TSDF of the network": network_mesh(scene, views)}
    if has_open3d():
        maps = render_depth_maps(scene.gaussians, cameras, scene.antialiased, lambda done: None)
        meshes["Poisson"] = poisson_mesh(maps)
    for method, each in meshes.items():
        if folder is not None:
            write_mesh(folder / f"{name}-{method.replace(' ', '-')}.ply", each, WORLD)
    return [score(name, method, each, points, size) for method, each in meshes.items()]


def has_open3d() -> bool:
    """Return whether Poisson reconstruction can be measured."""
    import importlib.util

    return importlib.util.find_spec("open3d") is not None


@program
def main(words: Sequence[str] | None = None) -> None:
    """Measure scenes and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenes", nargs="+", metavar="SCENE")
    parser.add_argument("--quality", default="standard", choices=["draft", "standard", "high"])
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep the meshes")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(words)
    check_outputs(options.json)
    make_folder(options.save)
    rows = []
    for name in options.scenes:
        for row in evaluate(name, ReconstructConfig.for_quality(options.quality), options.save):
            rows.append(row)
            numbers = f"{row.precision:.3f} | {row.recall:.3f} | {row.f_score:.3f}"
            say(f"| {row.scene} | {row.method} | {numbers} | {row.triangles:,} |")
    write_numbers([asdict(row) for row in rows], options.json)


if __name__ == "__main__":
    main()
