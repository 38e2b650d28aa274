"""Training losses: a table of terms by name, and their weighted sum."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from recon.errors import ConfigError, ReconError
from recon.model.api import NetworkOutput
from recon.optimisation.photo_loss import ssim
from render import Cameras, Gaussians, RasterizeSettings, RenderOutput, rasterize
from render.cameras import camera_centers
from render.types import NEAR
from training.data.types import Batch
from training.perceptual import PerceptualNet, perceptual_distance
from training.rendering import Renderer


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss terms; terms of weight 0 are not computed (except mse, for logging)."""

    mse: float = 1.0
    """Squared error of rendered colours (GS-LRM, Zhang et al. 2024, eq. 6); mean over the final
    Gaussians and those before later corrections."""
    ssim: float = 0.0
    """1 - SSIM of the final renders (Wang et al. 2004), which squared errors leave blurred; 3DGS
    0.2."""
    perceptual: float = 0.0
    """Perceptual distance of rendered images; GS-LRM 0.5, pixelSplat 0.05."""
    perceptual_net: PerceptualNet = "st_lpips_vgg"
    """Network of the perceptual distance; its weights must be installed."""
    depth: float = 0.1
    """Absolute error of log depth of the context views where it is known; mean over the network's
    final and intermediate depth maps."""
    opacity: float = 0.0
    """Mean opacity, which removes superfluous Gaussians (LongLRM, Ziwen et al. 2024, eq. 5)."""
    distortion: float = 0.0
    """Spread of the Gaussians along the rays (2DGS, Huang et al. 2024, eq. 13)."""
    leak: float = 0.0
    """Mean transparency of the renders, for images without empty pixels: on dark or difficult
    scenes transparency hardly changes the squared error."""
    pose: float = 0.0
    """Error of the poses that a network predicts (pose-free): rotations and, in units of the first
    view's middle depth, positions."""
    background: Literal["black", "random"] = "black"
    """Background of the renders. random: one colour per image, which penalises transparent
    surfaces; for images without empty pixels."""
    custom: dict[str, float] = field(default_factory=dict)
    """Weights of terms that a program added to `training.losses.LOSSES`, by name."""


class LossInputs(NamedTuple):
    """Arguments of a loss term: b scenes, v context views, t views with the targets, h w pixels."""

    output: NetworkOutput
    """Gaussians, depth and confidence, in the frame and scale of the batch's cameras."""
    rendered: RenderOutput
    """Renders of the Gaussians from all cameras of the batch: `rgb` [b t 3 h w], `alpha` and, for
    terms that are not built in, `depth` and `expected_depth` [b t 1 h w]. None where nothing can
    be rendered; then only the terms of `WITHOUT_RENDERS` are computed."""
    batch: Batch
    """Input views and ground truth."""
    intermediate: tuple[RenderOutput, ...] = ()
    """Renders (`rgb`, `alpha`) of the Gaussians before later corrections, if these are trained."""
    renderer: Renderer = rasterize
    """Makes further renders where this training renders; takes the arguments of `rasterize`."""


LossTerm = Callable[[LossInputs], Tensor]
"""A loss term: a scalar tensor with gradients, before its weight."""


class WeightedLoss(NamedTuple):
    """A loss term and its weight in the total."""

    term: LossTerm
    weight: float = 1.0


def _mse(inputs: LossInputs) -> Tensor:
    renders = (inputs.rendered, *inputs.intermediate)
    errors = [(render.rgb - inputs.batch.images).square().mean() for render in renders]
    return torch.stack(errors).mean()


def _perceptual(inputs: LossInputs, net: PerceptualNet = "st_lpips_vgg") -> Tensor:
    images = inputs.batch.images
    distance = perceptual_distance(net, str(images.device))
    return distance(inputs.rendered.rgb.clamp(0, 1).flatten(0, 1), images.flatten(0, 1)).mean()


def _ssim(inputs: LossInputs) -> Tensor:
    pairs = zip(inputs.rendered.rgb.flatten(0, 1), inputs.batch.images.flatten(0, 1), strict=True)
    return 1 - torch.stack([ssim(rendered, photo) for rendered, photo in pairs]).mean()


def _depth(inputs: LossInputs) -> Tensor:
    """Average over the pixels of known depth: elsewhere it is NaN."""
    known = torch.isfinite(inputs.batch.depth)
    target = torch.where(known, inputs.batch.depth, 1.0).log()
    predicted = (inputs.output.depth, *inputs.output.intermediate_depths)
    errors = [((depth.log() - target).abs() * known).sum() for depth in predicted]
    return torch.stack(errors).mean() / known.sum().clamp_min(1)


def _opacity(inputs: LossInputs) -> Tensor:
    return inputs.output.gaussians.opacities.mean()


def _leak(inputs: LossInputs) -> Tensor:
    return (1 - inputs.rendered.alpha).mean()


def _distortion(inputs: LossInputs) -> Tensor:
    gaussians, cameras = inputs.output.gaussians, inputs.batch.cameras
    return distortion_loss(gaussians, cameras, inputs.renderer)


def _pose(inputs: LossInputs) -> Tensor:
    if inputs.output.viewmats is None:
        raise ReconError("loss.pose needs a network that predicts poses, such as pose-free")
    context = inputs.batch.context
    predicted, given = inputs.output.viewmats, context.cameras.viewmats
    rotation = (predicted - given)[..., :3, :3].square().sum((-2, -1))
    moved = camera_centers(predicted) - camera_centers(given)
    position = (moved / context.middle_depth[:, :1, None]).square().sum(-1)
    # The first view's are exact, where a root has no gradient.
    return ((rotation + 1e-6).sqrt() + (position + 1e-6).sqrt()).mean()


# In the order in which the total adds them up: another order would change its last bits.
LOSSES: dict[str, LossTerm] = {
    "mse": _mse,
    "ssim": _ssim,
    "perceptual": _perceptual,
    "depth": _depth,
    "opacity": _opacity,
    "leak": _leak,
    "distortion": _distortion,
    "pose": _pose,
}
# Terms that do not read renders.
WITHOUT_RENDERS = ("depth", "opacity", "pose")
_BUILT_IN = tuple(LOSSES.values())

# Names in the losses of a step, and in the log, that are no terms.
TOTAL, SQUARED_ERROR, PSNR = "total", "squared_error", "psnr"


def configured_losses(config: LossConfig) -> dict[str, WeightedLoss]:
    """Return the terms of a configuration, to be extended or given to a `Trainer` as they are.

    `{**configured_losses(config.loss), "mine": WeightedLoss(my_term, 0.1)}` adds a term.

    Raises:
        ConfigError: `config.custom` names a term that is not in `LOSSES`, or a weight is negative.
    """
    unknown = [name for name in config.custom if name not in LOSSES or hasattr(config, name)]
    if unknown:
        added = [name for name in LOSSES if not hasattr(config, name)]
        raise ConfigError(
            f"loss.custom.{unknown[0]}: no such term was added to training.LOSSES; "
            f"added: {', '.join(added) or 'none'}; a program must add it before it calls recon "
            "train, see 'Sources and losses by name' in docs/training.md"
        )
    terms: dict[str, LossTerm] = {
        **LOSSES,
        "perceptual": partial(_perceptual, net=config.perceptual_net),
    }
    weights = {name: getattr(config, name, config.custom.get(name, 0.0)) for name in LOSSES}
    for name, weight in weights.items():
        _check_weight(f"loss.{'custom.' if name in config.custom else ''}{name}", weight)
    return {
        name: WeightedLoss(terms[name], weight)
        for name, weight in weights.items()
        if weight > 0 or name == "mse"
    }


def weighted_losses(
    losses: Mapping[str, WeightedLoss | LossTerm],
) -> dict[str, WeightedLoss]:
    """Return the terms with their weights; a bare callable has weight 1.

    Raises:
        ConfigError: There is no term, or one has a reserved name, is not callable, or has a weight
            that is negative or not finite.
    """
    if not losses:
        raise ConfigError("losses: expected at least one term, found none")
    weighted = {}
    for name, loss in losses.items():
        if name in (TOTAL, SQUARED_ERROR, PSNR):
            raise ConfigError(f"losses: the name {name!r} is reserved; give the term another one")
        found = loss if isinstance(loss, WeightedLoss) else WeightedLoss(loss)
        if not callable(found.term):
            raise ConfigError(
                f"losses: {name} must be a WeightedLoss or a function of LossInputs, found {loss!r}"
            )
        _check_weight(f"losses: the weight of {name}", found.weight)
        weighted[name] = found
    return weighted


def _check_weight(name: str, weight: object) -> None:
    number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if not number or not math.isfinite(weight) or weight < 0:  # type: ignore[arg-type, operator]
        raise ConfigError(f"{name} must be a number, 0 or more, found {weight!r}")


def without_renders(
    losses: Mapping[str, WeightedLoss | LossTerm],
) -> dict[str, WeightedLoss | LossTerm]:
    """Return the terms that need no renders.

    Raises:
        ReconError: There is none.
    """
    found = {name: loss for name, loss in losses.items() if name in WITHOUT_RENDERS}
    if not found:
        raise ReconError(
            "nothing can be rendered here and no loss works without: set loss.depth above 0, "
            "or install a rasterizer (recon doctor)"
        )
    return found


def is_custom(loss: WeightedLoss | LossTerm) -> bool:
    """Return whether a term is none of the built-in ones."""
    term = loss.term if isinstance(loss, WeightedLoss) else loss
    function = term.func if isinstance(term, partial) else term
    return not any(function is built_in for built_in in _BUILT_IN)


def evaluate_losses(
    losses: Mapping[str, WeightedLoss | LossTerm], inputs: LossInputs
) -> dict[str, Tensor]:
    """Return each term's unweighted value by name, and the weighted sum as "total".

    A term given as a bare callable has weight 1.

    Raises:
        ReconError: The terms do not fit `weighted_losses`, or one that is not built in returned
            something else than a finite scalar tensor although the network's output is finite.
    """
    weighted = weighted_losses(losses)
    values = {name: loss.term(inputs) for name, loss in weighted.items()}
    for name, loss in weighted.items():
        if is_custom(loss):
            _check_value(name, values[name], inputs)
    parts = [weighted[name].weight * value for name, value in values.items()]
    return {**values, TOTAL: torch.stack(parts).sum()}


def _check_value(name: str, value: object, inputs: LossInputs) -> None:
    """Raise ReconError when the value of a term is not a finite scalar tensor."""
    if not isinstance(value, Tensor):
        raise ReconError(
            f"loss {name}: expected a scalar tensor, found {type(value).__name__} {value!r}"
        )
    if value.dim() != 0:
        raise ReconError(
            f"loss {name}: expected a scalar tensor, found one of shape {tuple(value.shape)}; "
            "return for example its mean()"
        )
    if not bool(torch.isfinite(value)) and _is_finite(inputs.output):
        raise ReconError(
            f"loss {name}: expected a finite value, found {float(value.detach())}; depths of the "
            "batch are NaN where they are unknown, and the mean of no pixels is NaN"
        )


def _is_finite(output: NetworkOutput) -> bool:
    """Return whether a network's output is finite: otherwise the training skips the step."""
    gaussians = output.gaussians
    tensors = [getattr(gaussians, f.name) for f in fields(gaussians)]
    return all(bool(torch.isfinite(tensor).all()) for tensor in (*tensors, output.depth))


def draw_backgrounds(config: LossConfig, cameras: Cameras) -> Float[Tensor, "b v 3"] | None:
    """Draw a colour for each image with torch's global generator; None stands for black."""
    if config.background == "black":
        return None
    return torch.rand(*cameras.viewmats.shape[:-2], 3, device=cameras.device)


def distortion_loss(
    gaussians: Gaussians, cameras: Cameras, renderer: Renderer = rasterize
) -> Tensor:
    """Compute the mean over rays of sum_ij w_i w_j (m_i - m_j)^2, m = 1 / z relative to its mean.

    The square, as in 2DGS's code, needs only three sums per ray:
    2 (sum w) (sum w m^2) - 2 (sum w m)^2.
    """
    settings = RasterizeSettings(near=NEAR, render_mode="RGB")
    spreads = []
    for camera in cameras:
        rows = camera.viewmats[..., 2:3, :]
        z = (gaussians.means * rows[..., :3]).sum(-1) + rows[..., 3]
        m = 1 / z.clamp_min(NEAR)
        m = m / m.detach().mean(-1, keepdim=True)
        m = torch.where(z > NEAR, m, 0.0)
        channels = torch.stack([m, m * m], -1)
        rendered = renderer(gaussians, camera, settings=settings, channels=channels)
        first, second = rendered.rgb.unbind(-3)
        spreads.append(2 * (rendered.alpha[..., 0, :, :] * second - first.square()).mean())
    return torch.stack(spreads).mean()
