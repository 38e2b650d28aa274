"""A contact sheet of procedural scenes for the documentation.

python -m training.data.procedural.contact_sheet docs/procedural.jpg [FOLDER WITH PHOTOS]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from recon.files import atomic_output
from render.video import to_bytes
from training.data.procedural.bank import list_photos, make_bank
from training.data.procedural.sample import ProceduralConfig, generate
from training.data.types import SampleRequest, TrainingSample
from training.programs import check_outputs, program

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


@program
def main(words: Sequence[str] | None = None) -> None:
    """Draw the sheet to an image file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="file to write")
    parser.add_argument("photos", nargs="?", default="", metavar="FOLDER", help="textures")
    options = parser.parse_args(words)
    check_outputs(options.image)
    sheet = contact_sheet(range(COLUMNS * ROWS), options.photos)
    with atomic_output(options.image) as temporary:
        Image.fromarray(to_bytes(sheet)).save(temporary, quality=88)


if __name__ == "__main__":
    main()
