"""Conversion of images and rays to tokens and back."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.layers.norms import LayerNorm
from recon.model.layers.precision import full_precision
from render import Cameras


@full_precision
def plucker_rays(cameras: Cameras) -> Float[Tensor, "*b v 6 h w"]:
    """Compute the Plücker coordinates (o x d, d) of every pixel's ray, with d of unit length.

    GS-LRM (Zhang et al. 2024), eq. 1.
    """
    origins, dirs = cameras.rays()
    dirs = torch.nn.functional.normalize(dirs, dim=-1)
    rays = torch.cat([torch.linalg.cross(origins, dirs), dirs], -1)
    return rays.movedim(-1, -3)


class Patchify(nn.Module):
    """Embeds square patches of images with their rays as tokens, by one linear layer."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch * patch * channels, width, bias=False)
        self.norm = LayerNorm(width)

    def forward(self, images: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b n d"]:
        """Return the tokens of all views, ordered by view, row and column."""
        b, v, c, h, w = images.shape
        p = self.patch
        patches = images.reshape(b, v, c, h // p, p, w // p, p)
        patches = patches.permute(0, 1, 3, 5, 4, 6, 2).reshape(b, -1, p * p * c)
        tokens: Tensor = self.norm(self.embed(patches))
        return tokens


class Unpatchify(nn.Module):
    """Converts tokens to maps at full resolution, by one linear layer."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.norm = LayerNorm(width)
        self.project = nn.Linear(width, patch * patch * channels, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n d"], views: int, height: int, width: int
    ) -> Float[Tensor, "b v h w c"]:
        """Return channels-last maps, as the per-pixel activations expect."""
        p, c = self.patch, self.channels
        maps: Tensor = self.project(self.norm(tokens))
        maps = maps.reshape(-1, views, height // p, width // p, p, p, c)
        return maps.permute(0, 1, 2, 4, 3, 5, 6).reshape(-1, views, height, width, c)
