"""Correction of predicted Gaussians by the errors of their own renders of the input views.

A learned optimiser on the pixel grid (after G3R, Chen et al. 2024, and ReSplat, Xu et al. 2025):
every round renders the input views and takes the gradient of the squared error with respect to
the head's raw channels; a small convolutional network maps gradients, residuals and present values
to a correction. The rounds share their weights.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, pad, pixel_shuffle, relu

from recon.model.api import ViewBatch
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.layers.convolutions import ConvBlock, ResidualBlock, channels_last
from recon.model.layers.precision import full_precision
from render import Gaussians, RasterizeSettings, rasterize

# The network works on squares of this side (px), and on squares twice as large.
CELL_PX = 2
WIDTH, WIDE = 48, 96
# Channels besides gradients and raw values: photo 3, residual 3, transparency 1, depth error 1.
NUM_IMAGE_CHANNELS = 8
# Typical corrections of a round, in units of the raw channels: depth, opacity, scale, rotation,
# colour.
STEPS = (0.1, 1.0, 0.5, 0.2, 0.3)
# Raw values are divided by these before they enter the network.
RANGES = (4.0, 4.0, 2.0, 1.0, 1.0)
# Gradients of a channel are not amplified if they are smaller than this fraction of the largest.
MIN_GRADIENT = 1e-3
SETTINGS = RasterizeSettings(render_mode="RGB+D")


@dataclass(frozen=True)
class _Errors:
    """What the renders of the input views say about the Gaussians."""

    gradient: Float[Tensor, "n c h w"]
    """Gradient of the squared error with respect to the raw channels."""
    image: Float[Tensor, "n 8 h w"]
    """Photo, residual, transparency, and log ratio of rendered and predicted depth."""


class ErrorFeedback(nn.Module):
    """Corrects the raw channels of a Gaussian head in rounds of rendering and comparing."""

    steps: Tensor
    ranges: Tensor

    def __init__(self, head: GaussianHeadConfig, context: int) -> None:
        super().__init__()
        self.head = head
        inputs = 2 * head.channels + NUM_IMAGE_CHANNELS
        self.context = nn.Conv2d(context, WIDTH, 1)
        self.enter = nn.Conv2d(CELL_PX**2 * inputs, WIDTH, 1)
        self.fine = ResidualBlock(2, WIDTH)
        self.down = ConvBlock(2, WIDTH, WIDE, stride=2)
        self.coarse = nn.Sequential(ResidualBlock(2, WIDE), ResidualBlock(2, WIDE))
        self.up = nn.Conv2d(WIDE, WIDTH, 1)
        self.blend = ResidualBlock(2, WIDTH)
        self.leave = nn.Conv2d(WIDTH, CELL_PX**2 * head.channels, 1)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)  # type: ignore[arg-type]
        self.register_buffer("steps", _per_channel(head, STEPS), persistent=False)
        self.register_buffer("ranges", _per_channel(head, RANGES), persistent=False)

    def forward(
        self,
        raw: Float[Tensor, "b v h w c"],
        batch: ViewBatch,
        opacity_weight: Float[Tensor, "b v h w"],
        context: Float[Tensor, "n k h2 w2"],
        rounds: int,
    ) -> list[Float[Tensor, "b v h w c"]]:
        """Return the raw channels after each round.

        Args:
            raw: Channels of `recon.model.heads.activate`.
            batch: The views that the network saw, which are rendered.
            opacity_weight: Argument of `activate`.
            context: Feature maps at 1/2 of the (padded) images.
            rounds: Number of rounds, 0 or more.
        """
        height, width = raw.shape[2:4]
        margin = (0, -width % (2 * CELL_PX), 0, -height % (2 * CELL_PX))
        cells = [
            (side + extra) // CELL_PX for side, extra in ((height, margin[3]), (width, margin[1]))
        ]
        hidden = self.context(_fitted(context, cells))
        corrected = []
        for _ in range(rounds):
            inputs = pad(self._inputs(raw, batch, opacity_weight), margin)
            hidden, change = self._correction(hidden, inputs)
            change = change[..., :height, :width].float().movedim(1, -1)
            raw = raw + self.steps * change.unflatten(0, raw.shape[:2])
            corrected.append(raw)
        return corrected

    def _correction(
        self, hidden: Float[Tensor, "n k h2 w2"], inputs: Float[Tensor, "n e h w"]
    ) -> tuple[Float[Tensor, "n k h2 w2"], Float[Tensor, "n c h w"]]:
        """Return the next hidden state and the change of the raw channels, in units of `steps`."""
        hidden = relu(hidden + self._entered(inputs))
        fine = self.fine(hidden)
        coarse = self.coarse(self.down(fine))
        hidden = self.blend(fine + interpolate(self.up(coarse), scale_factor=2, mode="bilinear"))
        return hidden, pixel_shuffle(self.leave(hidden), CELL_PX)

    def _entered(self, inputs: Float[Tensor, "n e h w"]) -> Float[Tensor, "n k h2 w2"]:
        """Apply `enter` to the channels of all pixels of a cell.

        It is one convolution with a stride, which writes no rearranged copy (as pixel_unshuffle
        does).
        """
        kernel = self.enter.weight[..., 0, 0].unflatten(1, (-1, CELL_PX, CELL_PX))
        return conv2d(inputs, kernel, self.enter.bias, stride=CELL_PX)

    @full_precision
    def _inputs(
        self,
        raw: Float[Tensor, "b v h w c"],
        batch: ViewBatch,
        opacity_weight: Float[Tensor, "b v h w"],
    ) -> Float[Tensor, "n e h w"]:
        errors = render_errors(raw, batch, self.head, opacity_weight)
        by_scene = errors.gradient.unflatten(0, raw.shape[:2])
        scale = by_scene.square().mean((1, 3, 4), keepdim=True).sqrt()
        # Some gradients are nothing but rounding: depth of a single view, rotation of a sphere.
        scale = scale.clamp_min(MIN_GRADIENT * scale.amax(2, keepdim=True)).clamp_min(1e-12)
        gradient = torch.asinh(by_scene / scale).flatten(0, 1)
        values = (raw.detach() / self.ranges).clamp(-3, 3).flatten(0, 1).movedim(-1, 1)
        return torch.cat([gradient, values, channels_last(errors.image)], 1)


@full_precision
def render_errors(
    raw: Float[Tensor, "b v h w c"],
    batch: ViewBatch,
    head: GaussianHeadConfig,
    opacity_weight: Float[Tensor, "b v h w"],
) -> _Errors:
    """Render the input views one by one and differentiate their squared error; without gradients.

    The gradient is summed over the views, so that it includes what a Gaussian does to the views of
    other photos.
    """
    raw, opacity_weight = raw.detach().float(), opacity_weight.detach()
    output = activate(raw, batch, head, opacity_weight)
    placed = output.gaussians.map(lambda t: t.requires_grad_())
    total = [torch.zeros_like(values) for values in _tensors(placed)]
    images: list[Tensor] = []
    gradients: list[Tensor] = []
    for view in range(raw.shape[1]):
        images.append(_render_view(placed, batch, view, output.depth[:, view, None], total))
    for view, part in enumerate(zip(*(t.chunk(raw.shape[1], 1) for t in total), strict=True)):
        # Activated again, view by view: the graph of all views together is large.
        leaf = raw[:, [view]].requires_grad_()
        with torch.enable_grad():
            own = activate(leaf, batch[[view]], head, opacity_weight[:, [view]]).gaussians
            # The sum, instead of `part` as grad_outputs, for which torch imports sympy (0.4 s).
            along = sum((a * b).sum() for a, b in zip(_tensors(own), part, strict=True))
            gradients += torch.autograd.grad(along, leaf)
    gradient = torch.cat(gradients, 1).flatten(0, 1).movedim(-1, 1)
    return _Errors(gradient, torch.stack(images, 1).flatten(0, 1))


def _render_view(
    gaussians: Gaussians,
    batch: ViewBatch,
    view: int,
    depth: Float[Tensor, "b 1 h w"],
    total: list[Tensor],
) -> Float[Tensor, "b 8 h w"]:
    """Render one view, add the gradients of its squared error to `total`, return its channels."""
    image = batch.images[:, view]
    with torch.enable_grad():
        rendered = rasterize(gaussians, batch.cameras[view], settings=SETTINGS)
        residual = rendered.rgb - image
        gradients = torch.autograd.grad(0.5 * residual.square().sum(), _tensors(gaussians))
    for sums, values in zip(total, gradients, strict=True):
        sums += values
    # Detached, so that nothing keeps the rasterizer's state of this view.
    rendered, residual = rendered.detach(), residual.detach()
    ratio = (rendered.expected_depth / depth).clamp(0.2, 5).log()
    return torch.cat([image, 4 * residual, 1 - rendered.alpha, ratio], 1)


def _tensors(gaussians: Gaussians) -> list[Tensor]:
    return [gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, gaussians.sh]


def _per_channel(head: GaussianHeadConfig, values: tuple[float, ...]) -> Float[Tensor, " c"]:
    return torch.tensor(values).repeat_interleave(torch.tensor(head.parts))


def _fitted(features: Float[Tensor, "n k h w"], size: list[int]) -> Float[Tensor, "n k h2 w2"]:
    """Crop or pad feature maps, whose margins differ, to the given height and width."""
    height, width = size
    features = features[..., :height, :width]
    margin = (0, width - features.shape[-1], 0, height - features.shape[-2])
    return pad(features, margin, mode="replicate") if max(margin) > 0 else features
