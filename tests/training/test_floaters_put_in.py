"""Floaters that are put into scenes to measure `recon clean`."""

import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere

from recon.meshing.depth_maps import render_depth_maps
from training.evaluation.floaters import KINDS, mixed, score_floaters

pytest.importorskip("scipy")


@pytest.mark.parametrize("kind", list(KINDS))
def test_floaters_are_between_cameras_and_the_surface(kind: str) -> None:
    maps = render_depth_maps(sphere(3000), around(), False, lambda done: None)
    added = mixed(90, maps, 1)[kind]
    assert len(added) == 30
    centers = torch.cat([camera.centers for camera in around()])
    # The cameras are 2 from the centre of the sphere, whose surface is 1.5 from them.
    nearest = torch.cdist(added.means, centers).min(1).values
    low, high = KINDS[kind].along
    assert (nearest > 1.45 * low).all() and (nearest < 2.0 * high).all()
    assert ((added.means - torch.tensor(CENTER)).norm(dim=1) > RADIUS).all()
    assert (added.opacities >= KINDS[kind].opacity[0]).all()


def test_scores_of_a_sphere() -> None:
    rows = score_floaters("sphere", sphere(6000), around(), False, 0.02)
    assert [row.kind for row in rows] == [*KINDS, "all"]
    assert all(row.recall > 0.8 and row.precision > 0.95 for row in rows)
    recalls = [row.recall for row in rows]
    assert recalls[-1] == pytest.approx(sum(recalls[:-1]) / 3)
