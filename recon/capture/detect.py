"""Find out what a folder holds and read it."""

from collections.abc import Sequence
from pathlib import Path

from recon.capture.colmap import find_colmap, read_colmap
from recon.capture.listing import read_files, read_folder
from recon.capture.llff import read_llff
from recon.capture.transforms import read_transforms
from recon.capture.types import Capture
from recon.capture.video import is_video, read_video
from recon.config import VIDEO_FRAMES
from recon.errors import InputError

# The second is the training part of a NeRF synthetic scene; the others are for testing.
TRANSFORMS_NAMES = ("transforms.json", "transforms_train.json")


def load_capture(
    source: Capture | str | Path | Sequence[str | Path],
    frames: int = VIDEO_FRAMES,
    photos: bool = True,
) -> Capture:
    """Read the photos of a capture, and their cameras if it comes with any; no pixels yet.

    A folder is, in this order: nerfstudio (transforms.json), COLMAP (a model in it, in
    `sparse`, `sparse/0` or `colmap/sparse/0`), LLFF (poses_bounds.npy), or plain photos.

    Args:
        source: Folder, video, transforms.json, poses_bounds.npy, or a list of image files. A
            capture is returned as it is.
        frames: Number of photos to take from a video; they are written to the cache.
        photos: Whether the photos must be there. Without, those of a transforms.json may be
            missing, provided that it states their sizes.

    Raises:
        InputError: There are no photos, or something about them or their cameras is wrong.
    """
    if isinstance(source, Capture):
        return source
    if not isinstance(source, (str, Path)):
        return read_files([Path(file) for file in source])
    path = Path(source)
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
