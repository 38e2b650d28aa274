"""Random scenes and metrics for tests."""

from pathlib import Path

import torch

from recon.capture import load_capture, load_views
from recon.formats import save_gaussians
from recon.model.registry import build_model
from recon.types import Views
from render import Cameras, Gaussians, Sim3
from render.quaternions import quats_to_rotmats


def random_gaussians(
    count: int, generator: torch.Generator, degree: int = 0, dtype: torch.dtype = torch.float64
) -> Gaussians:
    """Return a cloud around the origin with a radius of about 1."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Gaussians(
        means=0.6 * normal(count, 3),
        quats=torch.nn.functional.normalize(normal(count, 4), dim=-1),
        scales=0.05 + 0.15 * torch.rand(count, 3, generator=generator, dtype=dtype),
        opacities=0.2 + 0.75 * torch.rand(count, generator=generator, dtype=dtype),
        sh=0.3 * normal(count, (degree + 1) ** 2, 3),
    )


def write_empty_ply(path: Path) -> None:
    """Write a PLY of Gaussians without any, which recon's writers refuse."""
    save_gaussians(path, random_gaussians(1, torch.Generator(), dtype=torch.float32))
    header = path.read_bytes().partition(b"end_header\n")[0]
    path.write_bytes(header.replace(b"vertex 1\n", b"vertex 0\n") + b"end_header\n")


def random_sim3(generator: torch.Generator, dtype: torch.dtype = torch.float64) -> Sim3:
    """Return a random rotation, scale (between 0.3 and 3) and translation."""
    quat = torch.randn(4, generator=generator, dtype=dtype)
    scale = (2.2 * torch.rand((), generator=generator, dtype=dtype) - 1.1).exp()
    translation = torch.randn(3, generator=generator, dtype=dtype)
    return Sim3(scale, quats_to_rotmats(quat), translation)


def look_at_cameras(
    count: int, width: int = 48, height: int = 40, dtype: torch.dtype = torch.float64
) -> Cameras:
    """Return cameras on an arc at distance 4 around the origin, principal point off centre."""
    viewmats = []
    for i in range(count):
        angle = torch.tensor(0.35 * (i - (count - 1) / 2), dtype=dtype)
        cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros((), dtype=dtype)
        rotmat = torch.stack(
            [
                torch.stack([cosine, zero, sine]),
                torch.tensor([0.0, 1.0, 0.0], dtype=dtype),
                torch.stack([-sine, zero, cosine]),
            ]
        )
        viewmat = torch.eye(4, dtype=dtype)
        viewmat[:3, :3] = rotmat
        viewmat[2, 3] = 4.0
        viewmats.append(viewmat)
    focal_px, center_px = (1.1 * width, 1.15 * width), (0.47 * width, 0.55 * height)
    return Cameras.from_focal(torch.stack(viewmats), focal_px, width, height, center_px)


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Return the peak signal-to-noise ratio (dB) of values in [0, 1]."""
    return float(-10 * torch.log10((a - b).square().mean() + 1e-12))


def sample_views(sample: Path, size_px: int) -> Views:
    """Return photos 2 and 4 (context) and 3 (held out) of the sample capture."""
    frames = load_capture(sample).frames
    return load_views([frames[i] for i in (2, 4, 3)], size_px)


def swept(views: Views) -> Gaussians:
    """Return the plane-sweep prediction, which depends on no trained weights."""
    return build_model("plane-sweep")(views, lambda done: None).gaussians
