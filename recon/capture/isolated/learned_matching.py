"""Match photos by ALIKED features (Zhao et al. 2023) and LightGlue (Lindenberger et al. 2023).

Usage: learned_matching.py JOB.json

The learned matcher finds matches between photos that are too far apart for SIFT. Both networks are
those of kornia, with the weights of their authors from a file that ships with recon, so that
nothing is downloaded. Keypoints [n 2] (pixels, centres at +0.5) and matches [m 2] are written to
the .npz file that the job names.

This script runs in a separate process, with a time limit, and imports nothing from recon.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kornia.feature import ALIKED, LightGlue
from kornia.geometry.transform import resize
from PIL import Image
from safetensors.torch import load_file

MAX_KEYPOINTS = 2048
# Long side of the images that ALIKED was trained on (px).
LONG_SIDE_PX = 1024
DESCRIPTOR_SIZE = 128


def main(job: dict[str, Any]) -> None:
    """Extract the features of all images, and match all pairs."""
    torch.manual_seed(job["seed"])
    weights = next(path for path in map(Path, job["weights"]) if path.is_file())
    extractor, matcher = load_networks(weights)
    names = sorted(name for group in job["groups"] for name in group["names"])
    features: dict[str, dict[str, torch.Tensor]] = {}
    arrays: dict[str, Any] = {}
    with torch.inference_mode():
        for name in names:
            features[name] = extract_features(extractor, _read_image(Path(job["images"]) / name))
            if job.get("masks"):
                mask = np.asarray(Image.open(Path(job["masks"]) / f"{name}.png")) > 0
                features[name] = masked_features(features[name], torch.from_numpy(mask))
            arrays[f"keypoints|{name}"] = (features[name]["keypoints"][0] + 0.5).numpy()
        for first, second in itertools.combinations(names, 2):
            pair = {"image0": features[first], "image1": features[second]}
            matches = matcher(pair)["matches"][0]
            arrays[f"matches|{first}|{second}"] = matches.numpy().astype(np.uint32)
    np.savez(job["keypoints"], **arrays)


def load_networks(path: Path) -> tuple[ALIKED, LightGlue]:
    """Build both networks with the weights of a safetensors file (assets/aliked_lightglue.md)."""
    # Without a detection threshold, the MAX_KEYPOINTS best maxima are kept.
    extractor = ALIKED("aliked-n16", max_num_keypoints=MAX_KEYPOINTS, detection_threshold=0.0)
    # With `features`, kornia would download its own copy of the weights.
    matcher = LightGlue(features=None, input_dim=DESCRIPTOR_SIZE)  # type: ignore[arg-type]
    stored = load_file(path)
    for prefix, network in (("aliked.", extractor), ("lightglue.", matcher)):
        # Other buffers are counters, and constants of the constructor.
        state = network.state_dict()
        names = [name for name, _ in network.named_parameters()]
        names += [name for name in state if name.endswith(("running_mean", "running_var"))]
        for name in names:
            state[name] = stored[prefix + name].float()
            if (scale := stored.get(f"{prefix}{name}.scale")) is not None:
                state[name] *= scale
        network.load_state_dict(state)
    return extractor.eval(), matcher.eval()


def extract_features(extractor: ALIKED, image: torch.Tensor) -> dict[str, torch.Tensor]:
    """Extract the features of an image [3 h w], resized to a long side of LONG_SIDE_PX.

    Returns:
        The input of LightGlue; keypoints are in pixels of the given image, centres at 0.
    """
    height, width = image.shape[-2:]
    small = resize(image[None], LONG_SIDE_PX, side="long", antialias=True)
    scale = torch.tensor([small.shape[-1] / width, small.shape[-2] / height])
    features = extractor(small)[0]
    return {
        "keypoints": ((features.keypoints + 0.5) / scale - 0.5)[None],
        "descriptors": features.descriptors[None],
        "image_size": torch.tensor([[width, height]]).float(),
    }


def masked_features(
    features: dict[str, torch.Tensor], mask: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Drop the features on pixels where a mask [h w] is false."""
    x, y = features["keypoints"][0].round().long().unbind(-1)
    kept = mask[y.clamp(0, mask.shape[0] - 1), x.clamp(0, mask.shape[1] - 1)]
    dropped = {name: features[name][:, kept] for name in ("keypoints", "descriptors")}
    return features | dropped


def _read_image(path: Path) -> torch.Tensor:
    pixels = np.array(Image.open(path).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1).float() / 255


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
