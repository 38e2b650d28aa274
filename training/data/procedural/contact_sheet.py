"""A contact sheet of procedural scenes for the documentation.

python -m training.data.procedural.contact_sheet docs/procedural.jpg [FOLDER WITH PHOTOS]
"""

import sys
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from render.video import to_bytes
from training.data.procedural.bank import list_photos, make_bank
from training.data.procedural.sample import ProceduralConfig, generate
from training.data.types import SampleRequest, TrainingSample

COLUMNS, ROWS = 4, 8


def contact_sheet(seeds: range, photos: str = "") -> Float[Tensor, "3 h w"]:
    """Render scenes, COLUMNS per row.

    Each strip shows the first and last of four views, and the disparity of the first.

    Args:
        seeds: Seeds of the scenes.
        photos: Folder of photos for textures; "" for noise only.
    """
    bank, config = make_bank(list_photos(photos)), ProceduralConfig(supersampling=2)
    strips = [_strip(generate(SampleRequest(seed), config, bank)) for seed in seeds]
    rows = [torch.cat(strips[i : i + COLUMNS], 2) for i in range(0, len(strips), COLUMNS)]
    return torch.cat(rows, 1)


def _strip(sample: TrainingSample) -> Float[Tensor, "3 h w"]:
    low, high = 1 / sample.far[0], 1 / sample.near[0]
    disparity = (1 / sample.depth[0] - low) / (high - low)
    grey = disparity.clamp(0, 1).expand(3, -1, -1)
    return torch.cat([sample.images[0], sample.images[-1], grey], 2)


if __name__ == "__main__":
    sheet = contact_sheet(range(COLUMNS * ROWS), *sys.argv[2:3])
    Image.fromarray(to_bytes(sheet)).save(Path(sys.argv[1]), quality=88)
