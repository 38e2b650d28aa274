"""Scores of meshes against exact surfaces."""

import numpy as np
import pytest

from recon.meshing.triangles import TriangleMesh
from training.evaluation.surfaces import exact_views, sampled, score, surface_points

pytest.importorskip("scipy")

SQUARE = TriangleMesh(
    np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
)


def test_points_are_spread_by_area() -> None:
    points = sampled(SQUARE, 20_000)
    assert np.abs(points.mean(0) - [0.5, 0.5, 0]).max() < 0.01
    assert (points[:, 0] > points[:, 1]).mean() == pytest.approx(0.5, abs=0.02)


def test_a_mesh_that_covers_half_of_a_surface_has_half_of_the_recall() -> None:
    points = np.random.default_rng(0).uniform([0, 0, 0], [2, 1, 0], (60_000, 3))
    found = score("a", "b", SQUARE, points, 1.0)
    assert found.precision > 0.99
    assert found.recall == pytest.approx(0.505, abs=0.02)
    expected = 2 * found.precision * found.recall / (found.precision + found.recall)
    assert found.f_score == pytest.approx(expected)


def test_a_mesh_beside_the_surface_scores_nothing() -> None:
    points = sampled(SQUARE, 1000) + [0, 0, 0.02]
    assert score("a", "b", SQUARE, points, 1.0).f_score == 0


def test_the_exact_surface_is_what_rays_meet() -> None:
    views, depth = exact_views("9")
    points, size = surface_points(views, depth)
    pixels, z = views.cameras[[0]].project(points_of(points))
    column, row = pixels[0].long().unbind(1)
    inside = (z[0] > 0) & (row >= 0) & (column >= 0) & (row < 384) & (column < 512)
    behind = z[0][inside] > depth[0][row[inside], column[inside]] * 0.99
    # A point is visible from its own view at least: few are in front of what this view sees.
    assert float(behind.float().mean()) > 0.98
    assert 1 < size < 30


def points_of(points: np.ndarray):  # noqa: ANN201
    import torch

    return torch.from_numpy(points).float()
