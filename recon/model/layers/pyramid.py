"""A feature pyramid with a transformer at its top, shared by `cost-volume` and `epipolar`."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from recon.model.layers.attention import AttentionBackend, Trunk
from recon.model.layers.convolutions import ConvBlock, ResidualBlock
from recon.model.layers.tokens import plucker_rays
from render import Cameras

RAY_CHANNELS = 6
# Images are padded to multiples of this, the side of a token.
MULTIPLE_PX = 16


@dataclass(frozen=True)
class PyramidConfig:
    """Widths of the pyramid and of the transformer."""

    channels: tuple[int, int, int] = (32, 64, 128)
    """Feature channels at 1/2, 1/4 and 1/8 of the image size."""
    width: int = 256
    """Channels of a token (a square of 16 px)."""
    layers: int = 6
    """Number of transformer blocks, possibly 0."""
    heads: int = 4
    """Attention heads."""
    attention: AttentionBackend = "sdpa"
    """sdpa: PyTorch's own; xformers: CUDA only; auto: xformers where it can be used."""


class Encoder(nn.Module):
    """Feature maps at 1/2, 1/4, 1/8 and, for the tokens, 1/16 of the image size."""

    def __init__(self, config: PyramidConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.channels
        widths = [3, half, quarter, eighth, config.width]
        self.steps = nn.ModuleList(
            nn.Sequential(ConvBlock(2, before, after, stride=2), ResidualBlock(2, after))
            for before, after in zip(widths[:-1], widths[1:], strict=True)
        )

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> list[Float[Tensor, "n _ _ _"]]:
        """Return the feature maps from fine to coarse."""
        features, levels = 2 * images - 1, []
        for step in self.steps:
            features = step(features)
            levels.append(features)
        return levels


class Pyramid(nn.Module):
    """A transformer over the coarsest features with their rays, fused back into finer ones.

    The fusion adds the encoder's features of each size, as in DPT (Ranftl et al. 2021).
    """

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
        """Compute feature maps at 1/2 and 1/4 of the image size.

        Args:
            images: Display sRGB in [0, 1].
            cameras: One camera per image, at the size of the images.
            together: Number of consecutive images that attend to each other: all views of a
                scene, or 1.
        """
        *levels, coarse = self.encoder(images)
        height, width = coarse.shape[-2:]
        rays = plucker_rays(cameras.resized(width, height))
        tokens = (coarse + self.rays(rays)).flatten(2).mT
        tokens = self.trunk(tokens.reshape(-1, together * height * width, tokens.shape[-1]))
        features = tokens.reshape(len(images), height * width, -1).mT.unflatten(2, (height, width))
        fused = []
        for level, lift, blend in zip(
            reversed(levels), reversed(self.lifts), reversed(self.blends), strict=True
        ):
            up = interpolate(lift(features), scale_factor=2, mode="bilinear")
            features = blend(level + up)
            fused.append(features)
        return fused[2], fused[1]
