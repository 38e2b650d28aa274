"""Closed meshes of grids: pores, crumbs, cavities and contacts."""

import numpy as np
import pytest
import torch

from recon.meshing.closed import as_closed, closed_mesh, without_contacts
from recon.meshing.triangles import TriangleMesh
from recon.meshing.volume import Volume

trimesh = pytest.importorskip("trimesh")
pytest.importorskip("skimage")
pytest.importorskip("scipy")
pytest.importorskip("manifold3d")

SIDE = 40


def grid(solid: np.ndarray) -> Volume:
    """Return a volume that was measured everywhere."""
    distance = torch.from_numpy(np.where(solid, -1.0, 1.0)).float()
    return Volume(
        torch.zeros(3), 1.0, distance, torch.ones_like(distance), torch.zeros(solid.shape).bool()
    )


def ball(center: tuple[int, int, int], radius: float) -> np.ndarray:
    axes = np.stack(np.meshgrid(*3 * [np.arange(SIDE)], indexing="ij"), -1)
    return np.asarray(np.linalg.norm(axes - np.array(center), axis=-1) < radius)


def loaded(mesh: TriangleMesh) -> "trimesh.Trimesh":
    """Return the mesh with vertices of one position merged, as trimesh reads files."""
    return trimesh.Trimesh(mesh.vertices.astype(np.float32), mesh.faces, process=True)


def test_pores_crumbs_and_cavities_are_gone() -> None:
    solid = ball((20, 20, 20), 15)
    pores = np.random.default_rng(0).random(solid.shape) < 0.1
    porous = (solid & ~pores) | ball((37, 37, 37), 2)
    porous &= ~ball((20, 20, 20), 6)
    mesh = loaded(closed_mesh(grid(porous), None))
    assert mesh.is_watertight and mesh.body_count == 1 and mesh.euler_number == 2
    assert mesh.volume == pytest.approx(solid.sum(), rel=0.05)


@pytest.mark.parametrize("count", [4000, 1000, 200])
def test_noise_becomes_as_small_as_asked_and_stays_closed(count: int) -> None:
    solid = np.random.default_rng(1).random(3 * (SIDE,)) < 0.25
    mesh = closed_mesh(grid(solid), count)
    assert len(mesh.faces) <= count
    assert loaded(mesh).is_watertight and loaded(mesh).is_winding_consistent


def test_voxels_that_touch_in_an_edge_get_a_common_side() -> None:
    mask = np.zeros((5, 5, 5), bool)
    mask[2, 1, 2] = mask[2, 2, 3] = True
    value = np.full(mask.shape, -1.0)
    value[2, 1, 3] = -0.1
    filled = without_contacts(mask, value)
    assert filled.sum() == 3 and filled[2, 1, 3]
    assert (without_contacts(filled, value) == filled).all()


def test_two_boxes_with_a_common_edge_are_separated() -> None:
    low = trimesh.creation.box(bounds=[[0, 0, 0], [1, 1, 1]])
    high = trimesh.creation.box(bounds=[[1, 1, 0], [2, 2, 1]])
    both = trimesh.util.concatenate([low, high])
    both.merge_vertices()
    assert not both.is_watertight
    closed = as_closed(TriangleMesh(np.asarray(both.vertices), np.asarray(both.faces)))
    assert loaded(closed).is_watertight
    assert loaded(closed).volume == pytest.approx(2, rel=1e-3)
