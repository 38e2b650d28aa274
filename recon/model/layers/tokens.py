"""Pictures and rays to tokens and back."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.layers.norms import LayerNorm
from recon.model.layers.precision import full_precision
from render import Cameras


@full_precision
def plucker_rays(cameras: Cameras) -> Float[Tensor, "*b v 6 h w"]:
    """Plücker coordinates (o x d, d) of every pixel's ray, d of unit length (Plücker 1865;
    GS-LRM, Zhang et al. 2024, eq. 1)."""
    origins, dirs = cameras.rays()
    dirs = torch.nn.functional.normalize(dirs, dim=-1)
    rays = torch.cat([torch.linalg.cross(origins, dirs), dirs], -1)
    return rays.movedim(-1, -3)


class Patchify(nn.Module):
    """Square patches of pictures with their rays become tokens, by one linear layer."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.embed = nn.Linear(patch * patch * channels, width, bias=False)
        self.norm = LayerNorm(width)

    def forward(self, pictures: Float[Tensor, "b v c h w"]) -> Float[Tensor, "b n d"]:
        """Tokens of all views in one row: view by view, row by row."""
        b, v, c, h, w = pictures.shape
        p = self.patch
        patches = pictures.reshape(b, v, c, h // p, p, w // p, p)
        patches = patches.permute(0, 1, 3, 5, 4, 6, 2).reshape(b, -1, p * p * c)
        return self.norm(self.embed(patches))


class Unpatchify(nn.Module):
    """Tokens become maps at full resolution, by one linear layer."""

    def __init__(self, patch: int, channels: int, width: int) -> None:
        super().__init__()
        self.patch, self.channels = patch, channels
        self.norm = LayerNorm(width)
        self.project = nn.Linear(width, patch * patch * channels, bias=False)

    def forward(
        self, tokens: Float[Tensor, "b n d"], views: int, height: int, width: int
    ) -> Float[Tensor, "b v h w c"]:
        """Channels last: what an activation per pixel wants."""
        p, c = self.patch, self.channels
        maps = self.project(self.norm(tokens))
        maps = maps.reshape(-1, views, height // p, width // p, p, p, c)
        return maps.permute(0, 1, 2, 4, 3, 5, 6).reshape(-1, views, height, width, c)
