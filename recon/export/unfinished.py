"""Images of a long run that stay beside the output if it is interrupted, to go on from there."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recon.export.images import ImageConfig
from recon.interrupts import note
from recon.resumable import begin_folder
from render import Cameras

SUFFIX = ".unfinished"
REMEDY = "run that command again, delete the folder, or choose another output"


@contextmanager
def unfinished_images(output: Path, names: list[str], settings: dict[str, Any]) -> Iterator[Path]:
    """Yield the folder OUTPUT.unfinished, with the images of an earlier run of the same command.

    It stays if the block does not succeed, and is removed otherwise: move or copy the images before
    the end of the block.

    Args:
        output: File or folder that the images are for.
        names: Names of the images, which are written complete or not at all.
        settings: What the images depend on, JSON.

    Raises:
        InputError: The folder has images of another command, or cannot be written.
    """
    folder = output.with_name(output.name + SUFFIX)
    begin_folder(folder, settings, REMEDY)
    found = sum((folder / name).exists() for name in names)
    if found:
        note(f"{found} of {len(names)} images are in {folder} already")
    try:
        yield folder
    except BaseException:
        done = sum((folder / name).exists() for name in names)
        note(f"{done} of {len(names)} images stay in {folder}; the same command goes on from there")
        raise
    shutil.rmtree(folder, ignore_errors=True)


def settings_of(scene: Path, cameras: Cameras, config: ImageConfig) -> dict[str, Any]:
    """Return what the images of a scene depend on: its file, the cameras and the settings."""
    state = scene.stat()
    digest = hashlib.sha256()
    for tensor in (cameras.viewmats, cameras.Ks):
        digest.update(tensor.cpu().numpy().tobytes())
    return {
        "scene": str(scene.resolve()),
        "bytes": state.st_size,
        "modified_ns": state.st_mtime_ns,
        "size": [cameras.width, cameras.height],
        "cameras": digest.hexdigest()[:16],
        "images": asdict(config),
    }


def move_images(folder: Path, names: list[str], target: Path) -> None:
    """Move the images of a folder into a new one."""
    target.mkdir()
    for name in names:
        (folder / name).replace(target / name)
