"""Shift-tolerant LPIPS from the weights of the package stlpips-pytorch.

Ghildyal & Liu 2022, "Shift-tolerant perceptual similarity metric". The package's own
code needs torchvision and IPython, so only its weights are used. The network is an
AlexNet or a VGG16 whose strides are replaced by blurred subsampling.
"""

import functools
import importlib.util
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

WEIGHTS = "weights/vST0.0/{}_shift_tolerant.pth"
Backbone = Literal["alex", "vgg"]
WIDTHS = {"alex": (64, 192, 384, 256, 256), "vgg": (64, 128, 256, 512, 512)}


class _BlurPool(nn.Module):
    """Blur, then keep every second pixel (Zhang 2019), padded by reflection."""

    filt: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("filt", torch.zeros(channels, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        padded = nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
        return nn.functional.conv2d(padded, self.filt, stride=2, groups=x.shape[1])


def _alex_slices() -> list[list[tuple[int, nn.Module]]]:
    """Return the network's five slices, with the layer indices of the weight file."""
    second, third = nn.Conv2d(64, 192, 5, padding=2), nn.Conv2d(192, 384, 3, padding=1)
    return [
        [(0, nn.Conv2d(3, 64, 11, padding=2)), (1, _BlurPool(64)), (2, nn.ReLU())],
        [(3, nn.MaxPool2d(3, 1)), (4, _BlurPool(64)), (5, second), (6, nn.ReLU())],
        [(7, nn.MaxPool2d(3, 1)), (8, _BlurPool(192)), (9, third), (10, nn.ReLU())],
        [(11, nn.Conv2d(384, 256, 3, padding=1)), (12, nn.ReLU())],
        [(13, nn.Conv2d(256, 256, 3, padding=1)), (14, nn.ReLU())],
    ]


def _vgg_slices() -> list[list[tuple[int, nn.Module]]]:
    slices: list[list[tuple[int, nn.Module]]] = []
    index, before = 0, 3
    for width, convolutions in zip(WIDTHS["vgg"], (2, 2, 3, 3, 3), strict=True):
        layers: list[nn.Module] = [nn.MaxPool2d(2, 1), _BlurPool(before)] if slices else []
        for _ in range(convolutions):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
        slices.append(list(enumerate(layers, index)))
        index += len(layers)
    return slices


class StLpips(nn.Module):
    """Perceptual distance of images in [0, 1]; 0 for identical images."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        # Shift and scale of the inputs come from the weight file.
        self.scaling_layer = nn.Module()
        self.scaling_layer.register_buffer("shift", torch.zeros(1, 3, 1, 1))
        self.scaling_layer.register_buffer("scale", torch.ones(1, 3, 1, 1))
        self.net = nn.Module()
        widths = WIDTHS[backbone]
        slices = _alex_slices() if backbone == "alex" else _vgg_slices()
        for i, layers in enumerate(slices):
            block = nn.Sequential()
            for index, layer in layers:
                block.add_module(str(index), layer)
            self.net.add_module(f"slice{i + 1}", block)
            linear = nn.Module()
            # The weight file counts a dropout layer before the convolution.
            linear.model = nn.Sequential(nn.Identity(), nn.Conv2d(widths[i], 1, 1, bias=False))
            self.add_module(f"lin{i}", linear)

    def forward(
        self, a: Float[Tensor, "b 3 h w"], b: Float[Tensor, "b 3 h w"]
    ) -> Float[Tensor, " b"]:
        """Sum the weighted squared differences of unit feature vectors over all slices."""
        shift = self.scaling_layer.get_buffer("shift")
        scale = self.scaling_layer.get_buffer("scale")
        a, b = ((2 * x - 1 - shift) / scale for x in (a, b))
        total = torch.zeros(len(a), device=a.device)
        for i in range(5):
            block = getattr(self.net, f"slice{i + 1}")
            a, b = block(a), block(b)
            difference = (_unit(a) - _unit(b)).square()
            total = total + getattr(self, f"lin{i}").model(difference).mean((1, 2, 3))
        return total


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


@functools.cache
def load_st_lpips(backbone: Backbone = "alex") -> StLpips | None:
    """Load the metric with its weights; None if the package is not installed."""
    spec = importlib.util.find_spec("stlpips_pytorch")
    if spec is None or not spec.submodule_search_locations:
        return None
    path = Path(spec.submodule_search_locations[0]) / WEIGHTS.format(backbone)
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = StLpips(backbone)
    model.load_state_dict(state)
    return model.eval().requires_grad_(False)
