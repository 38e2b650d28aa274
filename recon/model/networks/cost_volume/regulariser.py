"""A network over planes, rows and columns that weighs the evidence."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.model.layers.convolutions import CONV, CONV_TRANSPOSE, ConvBlock, ResidualBlock


class Regulariser(nn.Module):
    """A U-shaped 3D network (as MVSNet, Yao et al. 2018, section 3.3): evidence of every plane,
    and what the context says, to one score a plane. Sides are multiples of 4."""

    def __init__(self, evidence: int, context: int, channels: int) -> None:
        super().__init__()
        wide, wider = 2 * channels, 4 * channels
        self.first = CONV[3](evidence, channels, 3, padding=1)
        self.context = nn.Conv2d(context, channels, 1)
        self.level1 = ResidualBlock(3, channels)
        self.down1 = ConvBlock(3, channels, wide, stride=2)
        self.level2 = ResidualBlock(3, wide)
        self.down2 = ConvBlock(3, wide, wider, stride=2)
        self.level3 = ResidualBlock(3, wider)
        self.up2 = CONV_TRANSPOSE[3](wider, wide, 2, stride=2)
        self.blend2 = ConvBlock(3, wide, wide)
        self.up1 = CONV_TRANSPOSE[3](wide, channels, 2, stride=2)
        self.blend1 = ConvBlock(3, channels, channels)
        self.score = nn.Conv3d(channels, 1, 1)

    def forward(
        self, evidence: Float[Tensor, "m e d h w"], context: Float[Tensor, "m c h w"]
    ) -> Float[Tensor, "m d h w"]:
        """Scores; their softmax over planes is the belief."""
        mixed = torch.relu(self.first(evidence) + self.context(context)[:, :, None])
        level1 = self.level1(mixed)
        level2 = self.level2(self.down1(level1))
        level3 = self.level3(self.down2(level2))
        level2 = self.blend2(level2 + self.up2(level3))
        level1 = self.blend1(level1 + self.up1(level2))
        return self.score(level1)[:, 0].float()
