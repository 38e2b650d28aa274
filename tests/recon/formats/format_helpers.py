"""Scenes to write, and the rounding that each format may introduce."""

from dataclasses import dataclass

import torch
from helpers import random_gaussians

from recon.formats.morton import in_morton_order, in_texture_order
from recon.formats.sog_archive import texture_size
from render import Gaussians
from render.quaternions import quats_to_rotmats


@dataclass(frozen=True)
class Rounding:
    """Largest differences that the specification of a format allows."""

    means: float
    """World units."""
    scales: float
    """Of the logarithm."""
    opacities: float
    colors: float
    """Of SH band 0."""
    sh: float
    """Of higher bands."""
    rotations: float
    """Of a rotation matrix's entries."""


EXACT = Rounding(1e-6, 1e-5, 1e-6, 1e-6, 1e-6, 1e-5)
BYTE = 0.5 / 255 + 1e-6
# The scenes below are 4 units wide, logarithms of scales span 3, SH lie within 1.
ROUNDING = {
    ".ply": EXACT,
    ".compressed.ply": Rounding(4 / 1023, 3 / 1023, BYTE, 0.02, 8 / 256, 4e-3),
    ".splat": Rounding(1e-6, 1e-5, BYTE, 0.5 / 255 / 0.28, 9.0, 0.02),
    ".spz": Rounding(1e-3, 0.5 / 16 + 1e-4, BYTE, 0.5 / 255 / 0.15 + 1e-4, 0.5 / 128 + 1e-5, 6e-3),
    ".sog": Rounding(2e-4, 0.02, BYTE, 0.03, 0.35, 0.02),
    ".glb": EXACT,
    ".usdc": EXACT,
    ".usda": EXACT,
    ".usdz": EXACT,
}
FORMATS = tuple(ROUNDING)


def scene_of(degree: int, count: int = 700) -> Gaussians:
    """Return random Gaussians in Morton order with values that every format can store."""
    generator = torch.Generator().manual_seed(degree)
    scene = random_gaussians(count, generator, degree, torch.float32)
    span = scene.means.abs().max()
    return in_morton_order(
        Gaussians(
            2 * scene.means / span,
            torch.nn.functional.normalize(scene.quats, dim=-1),
            torch.exp(3 * torch.rand(count, 3, generator=generator) - 4),
            scene.opacities.clamp(0.01, 0.99),
            scene.sh / scene.sh.abs().max(),
        )
    )


def assert_close(a: Gaussians, b: Gaussians, rounding: Rounding) -> None:
    """Compare two scenes in the same order; quaternions are compared by their axes."""
    assert len(a) == len(b)
    assert float((a.means - b.means).abs().max()) <= rounding.means
    assert float((a.scales.log() - b.scales.log()).abs().max()) <= rounding.scales
    assert float((a.opacities - b.opacities).abs().max()) <= rounding.opacities
    assert float((a.sh[:, 0] - b.sh[:, 0]).abs().max()) <= rounding.colors
    one, two = quats_to_rotmats(a.quats), quats_to_rotmats(b.quats)
    # An axis of a Gaussian has no sign.
    two = two * (one * two).sum(-2, keepdim=True).sign()
    assert float((one - two).abs().max()) <= 4 * rounding.rotations
    if rounding.sh < 2 and a.sh.shape[1] > 1:
        assert a.sh.shape == b.sh.shape
        assert float((a.sh[:, 1:] - b.sh[:, 1:]).abs().max()) <= rounding.sh


def as_stored(scene: Gaussians, extension: str) -> Gaussians:
    """Return a scene in Morton order in the order in which a format stores it."""
    if extension != ".sog":
        return scene
    return in_texture_order(scene, texture_size(len(scene))[0])
