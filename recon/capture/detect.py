"""Find out what a folder holds and read it."""

from pathlib import Path

from recon.capture.colmap import find_colmap, read_colmap
from recon.capture.listing import read_folder
from recon.capture.llff import read_llff
from recon.capture.transforms import read_transforms
from recon.capture.types import Capture
from recon.capture.video import is_video, read_video
from recon.errors import InputError
from recon.settings import VIDEO_FRAMES

# The second is the training part of a NeRF synthetic scene; the others are for testing.
TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")


def load_capture(path: Path, frames: int = VIDEO_FRAMES, photos: bool = True) -> Capture:
    """Read a capture without touching its pixels; InputError when it is none.

    A folder is, in this order: nerfstudio (transforms.json), COLMAP (a model in it, in
    `sparse`, `sparse/0` or `colmap/sparse/0`), LLFF (poses_bounds.npy), or plain photos.
    A path to a transforms.json or poses_bounds.npy itself works too. Of a video, so many `frames`
    are taken (and written to the cache). Without `photos`, those of a transforms.json need not be
    there, provided that it gives their sizes.
    """
    if path.is_file():
        if path.suffix == ".json":
            return read_transforms(path, photos)
        if path.suffix == ".npy":
            return read_llff(path)
        if is_video(path):
            return read_video(path, frames)
        raise InputError(
            f"{path} is a file; expected a folder of images, a video, a transforms.json, "
            "a COLMAP project or poses_bounds.npy; give the folder of the photos"
        )
    if not path.is_dir():
        raise InputError(
            f"input not found: {path}; expected a folder of images or a transforms.json; "
            "check the path"
        )
    for name in TRANSFORMS_NAMES:
        if (path / name).is_file():
            return read_transforms(path / name, photos)
    model = find_colmap(path)
    if model is not None:
        return read_colmap(path, model)
    if (path / "poses_bounds.npy").is_file():
        return read_llff(path / "poses_bounds.npy")
    return read_folder(path)
