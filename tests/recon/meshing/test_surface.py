"""Meshes of a sphere of Gaussians: where the surface is, and what is done to it."""

import math

import numpy as np
import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere

from recon.errors import InputError
from recon.meshing.extract import MeshConfig, extract_mesh
from recon.meshing.triangles import TriangleMesh, compacted, decimated, pieces
from recon.meshing.viewpoints import with_midpoints
from render import Cameras, Gaussians
from render.cameras import look_at

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")
pytest.importorskip("manifold3d")

VOXELS = 100_000


@pytest.fixture(scope="module")
def open_mesh() -> TriangleMesh:
    return extract_mesh(sphere(), around(), MeshConfig(max_voxels=VOXELS))


@pytest.fixture(scope="module")
def closed_mesh() -> TriangleMesh:
    config = MeshConfig(faces=2000, watertight=True, max_voxels=VOXELS)
    return extract_mesh(sphere(), around(), config)


def distances(mesh: TriangleMesh) -> np.ndarray:
    return np.linalg.norm(mesh.vertices - CENTER, axis=1)


def test_the_surface_is_where_the_gaussians_are(open_mesh: TriangleMesh) -> None:
    error = np.abs(distances(open_mesh) - RADIUS)
    assert np.median(error) < 0.0125 and np.quantile(error, 0.99) < 0.03


def test_triangles_face_outward(open_mesh: TriangleMesh) -> None:
    outward = (open_mesh.vertices - CENTER) / distances(open_mesh)[:, None]
    assert np.median((open_mesh.normals() * outward).sum(1)) > 0.95


def test_vertices_have_the_colors_of_the_scene(open_mesh: TriangleMesh) -> None:
    assert open_mesh.colors is not None
    side = open_mesh.vertices[:, 0] - CENTER[0]
    right, left = (open_mesh.colors[mask].mean(0) for mask in (side > 0.1, side < -0.1))
    assert right[0] > 0.85 > 0.15 > right[1] and left[1] > 0.85 > 0.15 > left[0]


def test_a_closed_mesh_is_closed_with_the_volume_of_the_sphere(closed_mesh: TriangleMesh) -> None:
    solid = trimesh.Trimesh(closed_mesh.vertices, closed_mesh.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent
    assert len(closed_mesh.faces) <= 2000
    assert solid.volume == pytest.approx(4 / 3 * math.pi * RADIUS**3, rel=0.06)


def test_decimation_keeps_the_shape(open_mesh: TriangleMesh) -> None:
    fewer = decimated(open_mesh, 1000)
    assert 500 < len(fewer.faces) <= 1000
    assert np.abs(distances(fewer) - RADIUS).mean() < 0.015


def test_a_floater_is_removed() -> None:
    scene = sphere()
    blob = scene[:40]
    offset = blob.means.mean(0) - torch.tensor([0.2, 0.6, 3.0])
    blob = Gaussians(
        0.05 * (blob.means - offset - torch.tensor([0.2, 0.6, 3.0]))
        + torch.tensor([0.2, 0.6, 3.0]),
        blob.quats,
        0.5 * blob.scales,
        blob.opacities,
        blob.sh,
    )
    mesh = extract_mesh(Gaussians.cat([scene, blob]), around(), MeshConfig(max_voxels=VOXELS))
    assert distances(mesh).max() < RADIUS + 0.08


def test_cameras_that_see_nothing_are_an_error() -> None:
    away = [Cameras.from_fov(look_at(torch.zeros(3), torch.tensor([0.0, 0, -1]),
            torch.tensor([0.0, -1, 0]))[None], 40.0, 32, 32)]  # fmt: skip
    with pytest.raises(InputError, match="no camera sees a surface"):
        extract_mesh(sphere(500), away, MeshConfig())


def test_cameras_are_added_between_neighbours() -> None:
    cameras = around(4)
    more = with_midpoints(cameras)
    assert more[:4] == cameras and 4 < len(more) <= 8
    centers = torch.cat([camera.centers for camera in cameras])
    added = more[4].centers
    nearest = torch.cdist(added, centers).sort().values[0]
    assert float(nearest[0]) == pytest.approx(float(nearest[1]), rel=1e-3)


def test_pieces_are_connected_triangles() -> None:
    vertices = np.arange(24.0).reshape(8, 3)
    mesh = TriangleMesh(vertices, np.array([[0, 1, 2], [2, 1, 3], [5, 6, 7]]))
    count, piece = pieces(mesh)
    assert piece[0] == piece[1] != piece[2] and count >= 2
    small = compacted(vertices, mesh.faces[2:])
    assert small.faces.tolist() == [[0, 1, 2]] and (small.vertices == vertices[5:]).all()
