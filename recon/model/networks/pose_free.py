"""The network `pose-free`: Gaussians in the first view's frame from images whose poses are unknown.

After NoPoSplat (Ye et al. 2024) and PF-LRM (Wang et al. 2023): the poses of the cameras are no
input, the intrinsics are, as one token a view.
    images + pixel positions [b v 5 h w] -> tokens, one more a view of its intrinsics
    -> blocks within views and over all views in turn -> of that token, the view's pose relative to
    the first; of the others, raw channels per pixel -> Gaussians along the rays of these cameras
Blocks within views, and the pose read from a token, are as in VGGT (Wang et al. 2025): rays tell
`gs-lrm` which tokens are of one view. A sum marks the tokens of the first view. Unlike NoPoSplat,
there is no pretrained backbone, and the points of a view move together, by its pose.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.api import NetworkOutput, ViewBatch
from recon.model.heads import GaussianHeadConfig, activate
from recon.model.layers.attention import AttentionBackend, Block, run_block
from recon.model.layers.norms import LayerNorm
from recon.model.layers.precision import full_precision
from recon.model.layers.tokens import Patchify, Unpatchify
from recon.model.networks.gs_lrm import INIT_STD
from recon.model.normalise import Normalisation
from render import Cameras
from render.quaternions import quats_to_rotmats

INPUT_CHANNELS = 5  # colour 3, position in the image 2
INTRINSICS, POSE = 4, 7  # numbers a view; the pose's quaternion and translation
POSE_STEP = 0.1  # a pose moves all points of a view: it is to change slower than their channels


@dataclass(frozen=True)
class PoseFreeConfig:
    """Shape of the network; the defaults are the small size."""

    width: int = 384
    """Channels of a token."""
    layers: int = 6
    """Blocks within views, and as many over all views."""
    heads: int = 6
    """Attention heads."""
    patch: int = 8
    """Side of a patch (px)."""
    attention: AttentionBackend = "sdpa"
    """sdpa: PyTorch's own; xformers: CUDA only; auto: xformers where it can be used."""
    recompute: bool = False
    """Recompute activations in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)
    """Activations."""


SIZES = {
    "tiny": PoseFreeConfig(width=128, layers=2, heads=4),
    "small": PoseFreeConfig(),
    "base": PoseFreeConfig(width=768, layers=6, heads=12),
}


class PoseFreeNetwork(nn.Module):
    """Maps a batch of any number of views to Gaussians; of its poses, only the first is used.

    The first pose and the first view's depth range are the frame and the unit of the result.
    """

    def __init__(self, config: PoseFreeConfig) -> None:
        super().__init__()
        self.config = config
        c = config
        self.patchify = Patchify(c.patch, INPUT_CHANNELS, c.width)
        self.intrinsics = nn.Linear(INTRINSICS, c.width, bias=False)
        self.first = nn.Parameter(INIT_STD * torch.randn(c.width))
        self.blocks = nn.ModuleList(
            Block(c.width, c.heads, True, c.attention) for _ in range(2 * c.layers)
        )
        self.pose = nn.Sequential(LayerNorm(c.width), nn.Linear(c.width, POSE, bias=False))
        self.unpatchify = Unpatchify(c.patch, c.head.channels, c.width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)

    def forward(self, batch: ViewBatch) -> NetworkOutput:
        """Predict Gaussians in the frame of the batch's cameras, by way of the first one's."""
        frame = first_frame(batch)
        blind = without_poses(frame.apply(batch))
        raw, viewmats = self._raw(blind)
        cameras = replace(blind.cameras, viewmats=viewmats)
        found = activate(raw, replace(blind, cameras=cameras), self.config.head)
        return frame.undo(replace(found, viewmats=viewmats))

    def _raw(self, blind: ViewBatch) -> tuple[Float[Tensor, "b v h w c"], Float[Tensor, "b v 4 4"]]:
        scenes, views, _, height, width = blind.images.shape
        padded = blind.padded(self.config.patch)
        images = torch.cat([2 * padded.images - 1, _positions(padded)], 2)
        tokens = self.patchify(images).unflatten(1, (views, -1))
        marks = self.intrinsics(_fractions(padded.cameras))[:, :, None]
        tokens = torch.cat([marks.to(tokens.dtype), tokens], 2)
        is_first = (torch.arange(views, device=tokens.device) == 0)[:, None, None]
        tokens = tokens + is_first * self.first.to(tokens.dtype)
        for index, block in enumerate(self.blocks):
            flat = tokens.flatten(0, 1) if index % 2 == 0 else tokens.flatten(1, 2)
            tokens = run_block(block, flat, self.config.recompute).reshape(tokens.shape)
        raw = self.unpatchify(tokens[:, :, 1:].flatten(1, 2), views, *padded.images.shape[-2:])
        return raw[:, :, :height, :width], _viewmats(self.pose(tokens[:, :, 0]))

    def flops(self, views: int, height: int, width: int) -> int:
        """Count the floating-point operations of one forward pass over one scene.

        Only matrix products count; a multiply-add counts as two.
        """
        c, d = self.config, self.config.width
        patches = -(-height // c.patch) * -(-width // c.patch)
        n = views * (patches + 1)
        linear = 2 * c.layers * 24 * n * d * d
        attention = c.layers * 4 * n * d * (n // views + n)
        channels = INPUT_CHANNELS + c.head.channels
        ends = 2 * views * patches * c.patch**2 * channels * d
        return linear + attention + ends + 2 * views * (INTRINSICS + POSE) * d


@full_precision
def first_frame(batch: ViewBatch) -> Normalisation:
    """Return the frame of each scene's first camera, with its middle depth as the unit."""
    first = batch.cameras.c2w[:, 0].double()
    unit = batch.middle_depth[:, 0].double()
    return Normalisation(first[:, :3, :3].mT, first[:, :3, 3], 1 / unit)


def without_poses(batch: ViewBatch) -> ViewBatch:
    """Return the views as if all cameras were the first, which is at the origin, and its range."""
    viewmats = torch.eye(4).to(batch.cameras.viewmats).expand_as(batch.cameras.viewmats)
    near, far = (depth[:, :1].expand_as(depth) for depth in (batch.near, batch.far))
    return replace(batch, cameras=replace(batch.cameras, viewmats=viewmats), near=near, far=far)


def _positions(batch: ViewBatch) -> Float[Tensor, "b v 2 h w"]:
    """Return x and y of each pixel, from -1 to 1 over the image."""
    scenes, views, _, height, width = batch.images.shape
    y, x = ((2 * torch.arange(n, device=batch.images.device) + 1) / n - 1 for n in (height, width))
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"))
    return grid.to(batch.images).expand(scenes, views, 2, height, width)


def _fractions(cameras: Cameras) -> Float[Tensor, "b v 4"]:
    """Return fx, fy, cx, cy as fractions of the image size; the centres relative to its middle."""
    size = torch.tensor([cameras.width, cameras.height]).to(cameras.Ks)
    focal = cameras.Ks[..., [0, 1], [0, 1]] / size
    return torch.cat([focal, cameras.Ks[..., :2, 2] / size - 0.5], -1)


@full_precision
def _viewmats(raw: Float[Tensor, "b v 7"]) -> Float[Tensor, "b v 4 4"]:
    """Map raw numbers to poses, which start at the first camera's; the first is the origin."""
    raw = POSE_STEP * raw.float()
    raw = torch.cat([torch.zeros_like(raw[:, :1]), raw[:, 1:]], 1)
    quats = torch.nn.functional.normalize(raw[..., :4] + raw.new_tensor([1.0, 0, 0, 0]), dim=-1)
    top = torch.cat([quats_to_rotmats(quats), raw[..., 4:, None]], -1)
    bottom = raw.new_tensor([0.0, 0, 0, 1]).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], -2)
