"""Perceptual losses: distances of images in the features of a recognition network.

See Johnson et al. 2016 and GS-LRM, Zhang et al. 2024, eq. 6.
"""

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from recon.errors import MissingDependency
from training.evaluation.st_lpips import load_st_lpips

PerceptualNet = Literal["st_lpips_vgg", "st_lpips_alex", "torchvision_vgg19"]
# Layer indices of relu1_2, 2_2, 3_2, 4_2 and 5_2 of VGG19, and their weights, as in Chen and
# Koltun 2017, whose loss GS-LRM's eq. 6 uses.
VGG19_LAYERS = {3: 1 / 2.6, 8: 1 / 4.8, 13: 1 / 3.7, 22: 1 / 5.6, 31: 10 / 1.5}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Distance = Callable[[Tensor, Tensor], Tensor]


@functools.cache
def perceptual_distance(net: PerceptualNet, device: str) -> Distance:
    """Return a distance of two batches of images [n 3 h w], with one value per image.

    Raises:
        MissingDependency: The weights are not on this machine; nothing is ever downloaded.
    """
    if net == "torchvision_vgg19":
        return Vgg19Distance(_torchvision_vgg19()).to(device)
    metric = load_st_lpips("vgg" if net == "st_lpips_vgg" else "alex")
    if metric is None:
        raise MissingDependency(
            f"loss.perceptual_net {net} needs weights that are not installed; "
            "pip install 'reconsplat[perceptual]', or set loss.perceptual=0"
        )
    return metric.to(device)


class Vgg19Distance(nn.Module):
    """Weighted mean absolute difference of VGG19 features."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features[: max(VGG19_LAYERS) + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(3, 1, 1))

    def forward(
        self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, " n"]:
        """Compute the distances; 0 for identical images."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        features = (torch.cat([a, b]) - mean) / deviation
        total = torch.zeros(len(a), device=a.device)
        for index, layer in enumerate(self.features.children()):
            features = layer(features)
            if index in VGG19_LAYERS:
                one, two = features.chunk(2)
                total = total + VGG19_LAYERS[index] * (one - two).abs().mean((1, 2, 3))
        return total


def _torchvision_vgg19() -> nn.Sequential:
    """Load torchvision's network with weights from torch's download cache."""
    if importlib.util.find_spec("torchvision") is None:
        raise MissingDependency("loss.perceptual_net torchvision_vgg19: pip install torchvision")
    from torchvision.models import VGG19_Weights, vgg19

    weights = VGG19_Weights.IMAGENET1K_V1
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    if not file.is_file():
        raise MissingDependency(
            f"loss.perceptual_net torchvision_vgg19: no weights at {file}; "
            f"download them there from {weights.url}"
        )
    network = vgg19()
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    features: nn.Sequential = network.features
    return features
