"""LPIPS with VGG16, from weights that are on this machine: nothing is ever downloaded.

Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric". The
features come from torchvision's weights of VGG16 in torch's download cache, their weights from
torchmetrics.
"""

import functools
import importlib.util
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

VGG16_FILE = "vgg16-397923af.pth"
WIDTHS, CONVOLUTIONS = (64, 128, 256, 512, 512), (2, 2, 3, 3, 3)
# Of images in [-1, 1]; the paper's code calls them shift and scale.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Lpips(nn.Module):
    """Perceptual distance of images in [0, 1]; 0 for identical images."""

    def __init__(self) -> None:
        super().__init__()
        # In one list, so that layers are numbered as torchvision numbers them.
        self.features = nn.Sequential()
        self.weights = nn.ParameterList([torch.zeros(1, width, 1, 1) for width in WIDTHS])
        before = 3
        for width, count in zip(WIDTHS, CONVOLUTIONS, strict=True):
            if len(self.features):
                self.features.append(nn.MaxPool2d(2, 2))
            for _ in range(count):
                self.features.append(nn.Conv2d(before, width, 3, padding=1))
                self.features.append(nn.ReLU())
                before = width
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(3, 1, 1))

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Sum the weighted squared differences of unit feature vectors over five layers (eq. 1)."""
        x = (2 * torch.cat([a, b]) - 1 - self.get_buffer("shift")) / self.get_buffer("scale")
        total, level = torch.zeros(len(a), device=a.device), 0
        layers = list(self.features.children())
        for i, layer in enumerate(layers):
            x = layer(x)
            # The last layer of a block is followed by pooling, or ends the network.
            if i + 1 == len(layers) or isinstance(layers[i + 1], nn.MaxPool2d):
                one, two = (x / (x.square().sum(1, keepdim=True) + 1e-8).sqrt()).chunk(2)
                total = total + (self.weights[level] * (one - two).square()).sum(1).mean((1, 2))
                level += 1
        return total


@functools.cache
def load_lpips() -> Lpips | None:
    """Load the metric with its weights; None if they are not on this machine."""
    features = Path(torch.hub.get_dir()) / "checkpoints" / VGG16_FILE
    spec = importlib.util.find_spec("torchmetrics")
    if not features.is_file() or spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0]) / "functional" / "image" / "lpips_models"
    state = torch.load(features, map_location="cpu", weights_only=True)
    linear = torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)
    model = Lpips()
    model.load_state_dict(
        {name: value for name, value in state.items() if name.startswith("features.")}
        | {f"weights.{i}": linear[f"lin{i}.model.1.weight"] for i in range(len(WIDTHS))}
        | {name: value for name, value in model.named_buffers()}
    )
    return model.eval().requires_grad_(False)
