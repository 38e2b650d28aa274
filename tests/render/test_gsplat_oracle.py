"""Projection and colours against gsplat's own torch implementation, which runs on a CPU."""

import pytest
import torch
from helpers import look_at_cameras, random_gaussians

from render import RasterizeSettings
from render.backends.reference import _project
from render.sh import num_coefficients, sh_to_colors

oracle = pytest.importorskip("gsplat.cuda._torch_impl")


def test_projection(generator: torch.Generator) -> None:
    scene, cameras = random_gaussians(300, generator, degree=1), look_at_cameras(2)
    size = (cameras.width, cameras.height)
    radii, means2d, depths, conics, _ = oracle._fully_fused_projection(
        scene.means, scene.covars(), cameras.viewmats, cameras.Ks, *size, near_plane=0.01
    )
    for v in range(2):
        settings = RasterizeSettings(near=0.01)
        ours = _project(scene, cameras.viewmats[v], cameras.Ks[v], size, settings)
        visible = (radii[v] > 0).all(-1)
        order = torch.argsort(depths[v][visible], stable=True)
        assert len(ours.means2d) == int(visible.sum())
        assert torch.allclose(ours.means2d, means2d[v][visible][order], atol=1e-10)
        assert torch.allclose(ours.conics, conics[v][visible][order], atol=1e-10)
        assert torch.allclose(ours.values[:, 3], depths[v][visible][order])


@pytest.mark.parametrize("degree", range(5))
def test_colours(degree: int, generator: torch.Generator) -> None:
    dirs = torch.randn(50, 3, generator=generator, dtype=torch.float64)
    dirs = torch.nn.functional.normalize(dirs, dim=-1)
    sh = torch.randn(50, num_coefficients(degree), 3, generator=generator, dtype=torch.float64)
    theirs = (oracle._spherical_harmonics(degree, dirs, sh) + 0.5).clamp_min(0)
    assert torch.allclose(sh_to_colors(sh, dirs), theirs, atol=1e-12)
