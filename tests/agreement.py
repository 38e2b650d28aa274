"""Do two rasterizer backends agree? The measures of the accuracy table."""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from render import Cameras, Gaussians, RasterizeSettings, rasterize
from training.benchmarks.scenes import pixel_aligned

RGB_P999, GRADIENT_L2, GRADIENT_COSINE = 1e-5, 1e-3, 0.9999


@dataclass(frozen=True)
class Agreement:
    """Differences to the float64 reference."""

    rgb_p999: float
    rgb_max: float
    gradients: dict[str, tuple[float, float]]
    """Input -> (relative L2 difference, cosine)."""

    def check(self) -> None:
        """Assert the bars of the accuracy table."""
        assert self.rgb_p999 < RGB_P999, self
        for name, (difference, cosine) in self.gradients.items():
            assert difference < GRADIENT_L2 and cosine > GRADIENT_COSINE, (name, self)

    def row(self, name: str) -> str:
        """A row of the table in docs/benchmark/rasterizer.md."""
        worst = max(difference for difference, _ in self.gradients.values())
        cosine = min(cosine for _, cosine in self.gradients.values())
        return f"| {name} | {self.rgb_p999:.1e} | {self.rgb_max:.1e} | {worst:.1e} | {cosine:.7f} |"


def agreement(
    scene: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings | None = None,
    *,
    backend: str = "cpu",
    channels: Tensor | None = None,
    mask: Tensor | None = None,
    device: str = "cpu",
) -> Agreement:
    """Render and differentiate with both; inputs are rounded to float32 for both."""
    settings = settings or RasterizeSettings()
    results = []
    for name, dtype, where in (
        ("reference", torch.float64, "cpu"),
        (backend, torch.float32, device),
    ):
        results.append(_run(scene, cameras, settings, channels, mask, (name, dtype, where)))
    (image, gradients), (other_image, other_gradients) = results
    error = (image - other_image).abs().flatten()
    kth = max(1, int(0.999 * len(error)))
    compared = {}
    for name, expected in gradients.items():
        found = other_gradients[name]
        size, other_size = expected.norm(), found.norm()
        if size == 0:
            assert other_size == 0, f"{name}: expected no gradient, found {other_size}"
            continue
        cosine = float((expected * found).sum() / (size * other_size).clamp_min(1e-300))
        compared[name] = (float((expected - found).norm() / size), cosine)
    return Agreement(float(error.kthvalue(kth).values), float(error.max()), compared)


def _run(
    scene: Gaussians,
    cameras: Cameras,
    settings: RasterizeSettings,
    channels: Tensor | None,
    mask: Tensor | None,
    how: tuple[str, torch.dtype, str],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Colours and all gradients of a random projection of colours, alpha and depth."""
    backend, dtype, device = how

    def leaf(tensor: Tensor) -> Tensor:
        return tensor.detach().float().to(device, dtype).requires_grad_()

    inputs = {f.name: leaf(getattr(scene, f.name)) for f in fields(Gaussians)}
    gaussians = Gaussians(**inputs)
    inputs["viewmats"] = leaf(cameras.viewmats)
    placed = replace(cameras, viewmats=inputs["viewmats"], Ks=cameras.Ks.float().to(device, dtype))
    if channels is not None:
        del inputs["sh"]
        inputs["channels"] = leaf(channels)
    background = None
    if settings.render_mode != "D":
        width = 3 if channels is None else channels.shape[-1]
        background = leaf(torch.full((*cameras.viewmats.shape[:-2], width), 0.3))
        inputs["backgrounds"] = background
    else:
        inputs.pop("sh", None)
    output = rasterize(
        gaussians,
        placed,
        backgrounds=background,
        settings=settings,
        channels=inputs.get("channels"),
        mask=None if mask is None else mask.to(device),
        backend=backend,
    )
    rendered = torch.cat([output.rgb, output.alpha, output.depth], -3)
    generator = torch.Generator().manual_seed(7)
    weights = torch.randn(rendered.shape, generator=generator, dtype=torch.float64)
    (rendered * weights.to(rendered)).sum().backward()
    colors = output.rgb if settings.render_mode != "D" else output.alpha
    gradients = {
        n: t.grad.double().cpu().flatten() for n, t in inputs.items() if t.grad is not None
    }
    return colors.detach().double().cpu(), gradients


def degenerate_scene(generator: torch.Generator) -> tuple[Gaussians, Cameras]:
    """Needles, giants, points, ghosts and solids, some behind the camera or on its edge."""
    shapes = {  # scales, opacity
        "needle": ([3.0, 0.002, 0.002], 0.8),
        "disc": ([0.4, 0.4, 1e-6], 0.8),
        "huge": ([40.0, 30.0, 50.0], 0.3),
        "point": ([0.0, 0.0, 0.0], 0.9),
        "ghost": ([0.1, 0.1, 0.1], 0.0),
        "solid": ([0.2, 0.1, 0.15], 1.0),
        "faint": ([0.3, 0.2, 0.25], 1.1 / 255),
    }
    positions = [
        [0.2, 0.1, 3.0],
        [-1.4, 0.3, 3.0],
        [0.1, 1.2, 2.5],
        [0.0, 0.0, -2.0],
        [0.3, 0, 0.02],
    ]
    means, scales, opacities = [], [], []
    for scale, opacity in shapes.values():
        for position in positions:
            means.append(torch.tensor(position) + 0.05 * torch.randn(3, generator=generator))
            scales.append(torch.tensor(scale))
            opacities.append(opacity)
    count = len(means)
    scene = Gaussians(
        torch.stack(means),
        torch.randn(count, 4, generator=generator),  # not normalised: rotation is what counts
        torch.stack(scales),
        torch.tensor(opacities),
        0.5 * torch.randn(count, 4, 3, generator=generator),
    )
    return scene, Cameras.from_focal(torch.eye(4)[None], (60.0, 64.0), 63, 50, (30.0, 26.0))


def crop_of_s1(degree: int) -> tuple[Gaussians, Cameras]:
    """A small image of the pixel-aligned benchmark scene."""
    return pixel_aligned(64, 2, 64, 0.75, degree)
