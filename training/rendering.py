"""Which rasterizer a training uses: on its device, on the CPU, or none."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize
from render.types import NEAR, BackendUnavailable

# Of all renders that are compared with photos.
SETTINGS = RasterizeSettings(near=NEAR, render_mode="RGB")
Renderer = Callable[..., RenderOutput]
"""Takes the arguments of `rasterize` and returns images on the device of the Gaussians."""


def choose_renderer(
    device: torch.device,
    report: Callable[[str], None],
    problem_on: Callable[[torch.device], str | None] | None = None,
) -> Renderer | None:
    """Return a renderer that works here; None if there is none.

    Args:
        device: Device of the training, which is tried first; the second choice is the CPU.
        report: Receives a line about each device that cannot render.
        problem_on: Says why a device cannot render, or None; by default it renders a Gaussian.
    """
    problem_on = problem_on or rendering_problem
    for candidate in dict.fromkeys((device, torch.device("cpu"))):
        problem = problem_on(candidate)
        if problem is None:
            return rasterize if candidate == device else _renderer_on(candidate)
        report(f"no rendering on {candidate}: {problem}")
    return None


def rendering_problem(device: torch.device) -> str | None:
    """Say why a Gaussian cannot be rendered with gradients on a device; None if it can."""
    try:
        means = torch.tensor([[0.0, 0.0, 2.0]], device=device, requires_grad=True)
        gaussians = Gaussians(
            means=means,
            quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]], device=device),
            scales=torch.full((1, 3), 0.2, device=device),
            opacities=torch.full((1,), 0.8, device=device),
            sh=torch.ones(1, 1, 3, device=device),
        )
        pose = torch.eye(4, device=device)[None]
        cameras = Cameras.from_fov(pose, fov_deg=60.0, width=16, height=16)
        rasterize(gaussians, cameras).rgb[..., :8].sum().backward()
    except BackendUnavailable as error:
        return str(error)
    except (RuntimeError, ImportError, OSError) as error:  # a build for another GPU or torch
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    return None if means.grad is not None else "no gradients"


def _renderer_on(device: torch.device) -> Renderer:
    def render(gaussians: Gaussians, cameras: Cameras, **options: Any) -> RenderOutput:
        moved: dict[str, Any] = {
            name: option.to(device) if isinstance(option, Tensor) else option
            for name, option in options.items()
        }
        output = rasterize(gaussians.to(device), cameras.to(device), **moved)
        return output.to(gaussians.device)

    return render
