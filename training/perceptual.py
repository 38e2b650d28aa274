"""The perceptual loss: distance of pictures as a network for recognition sees them
(Johnson et al. 2016; GS-LRM, Zhang et al. 2024, eq. 6)."""

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
# Ends of the compared features of VGG19: relu1_2, 2_2, 3_2, 4_2, 5_2, and their weights, as in
# Chen and Koltun 2017, whose loss GS-LRM's eq. 6 takes.
VGG19_LAYERS = {3: 1 / 2.6, 8: 1 / 4.8, 13: 1 / 3.7, 22: 1 / 5.6, 31: 10 / 1.5}
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Distance = Callable[[Tensor, Tensor], Tensor]


@functools.cache
def perceptual_distance(net: PerceptualNet, device: str) -> Distance:
    """The distance of two batches of pictures [n 3 h w], a number a picture; ReconError when its
    weights are not on this machine (nothing is ever downloaded)."""
    if net == "torchvision_vgg19":
        return Vgg19Distance(_torchvision_vgg19()).to(device)
    metric = load_st_lpips("vgg" if net == "st_lpips_vgg" else "alex")
    if metric is None:
        raise MissingDependency(
            f"loss.perceptual_net {net} needs weights that are not installed; "
            "pip install --no-deps stlpips-pytorch==0.0.2, or set loss.perceptual=0"
        )
    return metric.to(device)


class Vgg19Distance(nn.Module):
    """Weighted mean absolute difference of features."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features[: max(VGG19_LAYERS) + 1].eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).reshape(3, 1, 1))
        self.register_buffer("deviation", torch.tensor(DEVIATION).reshape(3, 1, 1))

    def forward(
        self, a: Float[Tensor, "n 3 h w"], b: Float[Tensor, "n 3 h w"]
    ) -> Float[Tensor, "n"]:
        """0 = alike."""
        mean, deviation = self.get_buffer("mean"), self.get_buffer("deviation")
        seen = (torch.cat([a, b]) - mean) / deviation
        total = torch.zeros(len(a), device=a.device)
        for number, layer in enumerate(self.features.children()):
            seen = layer(seen)
            if number in VGG19_LAYERS:
                one, two = seen.chunk(2)
                total = total + VGG19_LAYERS[number] * (one - two).abs().mean((1, 2, 3))
        return total


def _torchvision_vgg19() -> nn.Sequential:
    """torchvision's network with weights that an earlier download left in torch's cache."""
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
    return network.features
