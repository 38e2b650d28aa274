"""A pyramid of features with a transformer at its top, shared by `cost-volume` and `epipolar`."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from recon.model.layers.attention import AttentionBackend, Trunk
from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.tokens import plucker_rays
from render import Cameras

RAY_CHANNELS = 6
# Pictures are padded to multiples of this: a token's side.
MULTIPLE_PX = 16


@dataclass(frozen=True)
class PyramidConfig:
    """Widths of the pyramid and of the transformer."""

    channels: tuple[int, int, int] = (32, 64, 128)
    """Feature channels at 1/2, 1/4 and 1/8 of the picture."""
    width: int = 256
    """Channels of a token (a square of 16 px)."""
    layers: int = 6
    """Transformer blocks; 0 leaves them out."""
    heads: int = 4
    """Attention heads."""
    attention: AttentionBackend = "sdpa"
    """sdpa: torch's own; xformers: CUDA only."""


class Encoder(nn.Module):
    """Features at 1/2, 1/4, 1/8 and, as tokens, 1/16 of the picture."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        widths = [3, half, quarter, eighth, config.width]
        self.steps = nn.ModuleList(
            nn.Sequential(ConvBlock(2, before, after, stride=2), ResidualBlock(2, after))
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Fine to coarse."""
        features, levels = 2 * images - 1, []
        for step in self.steps:
            features = step(features)
            levels.append(features)
        return levels


class Pyramid(nn.Module):
    """A transformer over the coarsest features with their rays, then a way back to
    finer ones that adds what each size knows (as DPT, Ranftl et al. 2021)."""

    def __init__(self, config: PyramidConfig, recompute: bool) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.rays = nn.Conv2d(RAY_CHANNELS, config.width, 1)
        self.trunk = Trunk(
            config.layers,
            config.width,
            config.heads,
            backend=config.attention,
            recompute=recompute,
        )
        half, quarter, eighth = config.channels
        fine_to_coarse = [half, quarter, eighth, config.width]
        self.lifts = nn.ModuleList(
            nn.Conv2d(coarse, fine, 1)
            for fine, coarse in zip(fine_to_coarse[:-1], fine_to_coarse[1:], strict=True)
        )
        self.blends = nn.ModuleList(ResidualBlock(2, fine) for fine in fine_to_coarse[:-1])

    def forward(
        self, images: Float[Tensor, "n 3 h w"], cameras: Cameras, together: int
    ) -> tuple[Float[Tensor, "n half hh wh"], Float[Tensor, "n quarter hq wq"]]:
        """Features at 1/2 and 1/4; the transformer sees `together` pictures at once, which follow
        one another: all views of a scene, or 1."""
        *levels, coarse = self.encoder(images)
        height, width = coarse.shape[-2:]
        rays = plucker_rays(cameras.resized(width, height))
        tokens = (coarse + self.rays(rays)).flatten(2).mT
        tokens = self.trunk(tokens.reshape(-1, together * height * width, tokens.shape[-1]))
        features = tokens.reshape(len(images), height * width, -1).mT.unflatten(2, (height, width))
        known = []
        for level, lift, blend in zip(
            reversed(levels), reversed(self.lifts), reversed(self.blends), strict=True
        ):
            up = interpolate(lift(features), scale_factor=2, mode="bilinear")
            features = blend(level + up)
            known.append(features)
        return known[2], known[1]
