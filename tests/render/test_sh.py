"""Spherical harmonics: orthonormal basis, rotation, degree 0 colours."""

import pytest
import torch
from helpers import random_sim3

from render.sh import colors_to_sh, degree_of, num_coefficients, rotate_sh, sh_basis, sh_to_colors


def directions(count: int, generator: torch.Generator) -> torch.Tensor:
    d = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(d, dim=-1)


def test_basis_is_orthonormal() -> None:
    # Gauss-Legendre in z times even azimuths integrates degree 8 exactly.
    nodes, weights = map(torch.from_numpy, __import__("numpy").polynomial.legendre.leggauss(12))
    azimuth = torch.arange(24, dtype=torch.float64) * (2 * torch.pi / 24)
    z, phi = torch.meshgrid(nodes, azimuth, indexing="ij")
    radius = (1 - z * z).sqrt()
    dirs = torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1).reshape(-1, 3)
    weight = (weights[:, None] * torch.ones(24) * 2 * torch.pi / 24).reshape(-1)
    basis = sh_basis(4, dirs)
    gram = (basis * weight[:, None]).T @ basis
    assert torch.allclose(gram, torch.eye(25, dtype=torch.float64), atol=1e-9)


def test_signs_of_the_first_band_are_those_of_3dgs() -> None:
    basis = sh_basis(1, torch.eye(3, dtype=torch.float64))
    c = 0.4886025119029199
    expected = torch.tensor([[0, 0, -c], [-c, 0, 0], [0, c, 0]], dtype=torch.float64)
    assert torch.allclose(basis[:, 1:], expected)


@pytest.mark.parametrize("degree", range(5))
def test_rotation_rotates_the_function(degree: int, generator: torch.Generator) -> None:
    sh = torch.randn(7, num_coefficients(degree), 3, generator=generator, dtype=torch.float64)
    rotmat = random_sim3(generator).rotmat
    dirs = directions(7, generator)
    before = sh_to_colors(sh, dirs)
    after = sh_to_colors(rotate_sh(sh, rotmat), dirs @ rotmat.T)
    assert torch.allclose(before, after, atol=1e-10)


def test_degree_zero_is_the_colour(generator: torch.Generator) -> None:
    colors = torch.rand(5, 3, generator=generator, dtype=torch.float64)
    assert torch.allclose(sh_to_colors(colors_to_sh(colors), directions(5, generator)), colors)


@pytest.mark.parametrize("degree", range(5))
def test_gradcheck(degree: int, generator: torch.Generator) -> None:
    sh = torch.randn(3, num_coefficients(degree), 3, generator=generator, dtype=torch.float64)
    # Colours well above 0, where the clamp has a corner.
    sh = (0.1 * sh).requires_grad_()
    dirs = directions(3, generator).requires_grad_()
    assert torch.autograd.gradcheck(sh_to_colors, (sh, dirs))


def test_wrong_count_is_named() -> None:
    with pytest.raises(ValueError, match="got 5"):
        degree_of(5)
