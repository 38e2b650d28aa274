"""Paste a synthetic passer-by into some photos of a capture, to measure `--transients`.

python -m training.evaluation.passers_by CAPTURE FOLDER --split dense

A figure with patterned clothes stands somewhere else in every third context photo of the split;
held-out photos stay as they are, so that `recon eval FOLDER --split dense` measures what passers-by
cost. Masks and other files of the capture are copied.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw

from recon.capture import load_capture
from recon.errors import InputError
from recon.files import atomic_output, check_new_folder
from training.evaluation.suite import read_split
from training.programs import program

EVERY = 3
# Height of the figure relative to that of the photo.
MIN_HEIGHT, MAX_HEIGHT = 0.35, 0.55
# Width of the figure relative to its height, and factor at which its outline is drawn.
ASPECT, SUPERSAMPLING = 0.36, 4
SKIN, HAIR = (205, 160, 130), (60, 40, 30)


def figure(height: int, seed: int) -> UInt8[np.ndarray, "h w 4"]:
    """Draw a person with a striped shirt and speckled trousers.

    Args:
        height: Height of the image (px).
        seed: Seed of the clothes' colours.

    Returns:
        RGBA image, transparent around the person.
    """
    rng = np.random.default_rng(seed)
    width = max(round(ASPECT * height), 2)
    shirt, stripe, trousers = rng.integers(0, 256, (3, 3))
    rows, columns = np.mgrid[:height, :width] / height
    stripes = np.sin(2 * np.pi * (20 * rows + 4 * np.sin(6 * columns))) > 0
    speckles = rng.integers(-40, 41, (height, width, 1))
    torso = np.where(stripes[..., None], shirt, stripe)
    clothes = np.where(rows[..., None] < 0.52, torso, trousers + speckles)
    clothes = np.where(rows[..., None] < 0.16, SKIN, clothes)
    clothes = np.where(rows[..., None] < 0.06, HAIR, clothes)
    outline = _outline(width * SUPERSAMPLING, height * SUPERSAMPLING).resize((width, height))
    alpha = np.asarray(outline)[..., None]
    return np.concatenate([clothes.clip(0, 255), alpha], -1).astype(np.uint8)


def _outline(width: int, height: int) -> Image.Image:
    """Draw where the person is: head, trunk, arms and legs."""
    image = Image.new("L", (width, height))
    draw = ImageDraw.Draw(image)

    def box(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
        return left * width, top * height, right * width, bottom * height

    draw.ellipse(box(0.33, 0.0, 0.67, 0.16), fill=255)
    draw.rounded_rectangle(box(0.22, 0.16, 0.78, 0.55), 0.08 * width, fill=255)
    draw.rounded_rectangle(box(0.02, 0.18, 0.2, 0.52), 0.06 * width, fill=255)
    draw.rounded_rectangle(box(0.8, 0.18, 0.98, 0.52), 0.06 * width, fill=255)
    draw.rectangle(box(0.24, 0.5, 0.47, 1.0), fill=255)
    draw.rectangle(box(0.53, 0.5, 0.76, 1.0), fill=255)
    return image


def paste(photo: Image.Image, seed: int) -> tuple[Image.Image, UInt8[np.ndarray, "h w"]]:
    """Paste the figure somewhere into a photo.

    Args:
        photo: The photo; its alpha, if it has any, stays.
        seed: Seed of position, size and clothes.

    Returns:
        The new photo, and the alpha of the figure.
    """
    rng = np.random.default_rng(seed)
    height = round(rng.uniform(MIN_HEIGHT, MAX_HEIGHT) * photo.height)
    person = Image.fromarray(figure(height, seed), "RGBA")
    left = int(rng.integers(0, max(photo.width - person.width, 1)))
    top = int(rng.integers(photo.height // 5, max(photo.height - person.height, 1) + 1))
    alpha = Image.new("L", photo.size)
    alpha.paste(person.getchannel("A"), (left, top))
    pasted = photo.copy()
    pasted.paste(person.convert(photo.mode), (left, top), person.getchannel("A"))
    return pasted, np.asarray(alpha)


def with_passers_by(source: Path, folder: Path, split: str) -> list[Path]:
    """Copy a capture, with a passer-by in every third context photo.

    Args:
        source: Folder of a capture whose photos are files in it.
        folder: Folder to make; must not exist.
        split: Name of the split whose context photos are changed.

    Returns:
        The changed photos.

    Raises:
        InputError: `folder` exists, or the photos are not files in `source`.
    """
    check_new_folder(folder)
    context = read_split(load_capture(source), split).context
    chosen = {index: context[index].image_path for index in range(0, len(context), EVERY)}
    for path in chosen.values():
        if not path.is_relative_to(source):
            raise InputError(f"{path} is not in {source}; expected a folder with its own photos")
    with atomic_output(folder) as temporary:
        shutil.copytree(source, temporary)
        for index, path in chosen.items():
            copy = temporary / path.relative_to(source)
            with Image.open(copy) as photo:
                pasted, _ = paste(photo.convert("RGBA" if "A" in photo.mode else "RGB"), index)
            pasted.save(copy, quality=95)
    return [folder / path.relative_to(source) for path in chosen.values()]


@program
def main(words: Sequence[str] | None = None) -> None:
    """Copy a capture with passers-by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--split", default="dense")
    options = parser.parse_args(words)
    with_passers_by(options.capture, options.folder, options.split)


if __name__ == "__main__":
    main()
