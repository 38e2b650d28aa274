"""Checks of the outputs of a command, before its work begins."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

from recon.cli.arguments import UsageError
from recon.errors import InputError
from recon.files import check_new_folder, check_output
from recon.reporting import STDOUT, check_json, check_json_name

if TYPE_CHECKING:
    from recon.capture import Capture

# Bytes on the disk of a Gaussian in each format, and of each coefficient of spherical harmonics
# above degree 0. Formats that compress vary by a factor of two. While a .usdz is written, its layer
# is on the disk as well.
BYTES_PER_GAUSSIAN = {
    ".ply": (68, 12), ".compressed.ply": (17, 3), ".splat": (32, 0), ".spz": (14, 2),
    ".sog": (9, 1), ".glb": (60, 12), ".usdc": (56, 12), ".usda": (178, 39), ".usdz": (112, 24),
}  # fmt: skip
# The same of a point of a cloud: near the origin, and at coordinates that float32 cannot hold.
BYTES_PER_POINT = {".points.ply": (15, 27), ".xyz": (43, 54), ".las": (26, 26), ".laz": (15, 15)}


def check_outputs(
    files: Mapping[str, Path | None],
    folders: Mapping[str, Path | None] | None = None,
    *,
    inputs: Iterable[Path | None] = (),
    force: bool = False,
    is_result: bool = False,
) -> None:
    """Check that all outputs can be written, are different, and replace no input.

    Args:
        files: Files to write, by option; None and standard output do not count.
        folders: New folders to write, by option.
        inputs: Files that are read, and folders of captures.
        force: Whether inputs and files in folders of captures may be replaced.
        is_result: Whether standard output is needed without `--json FILE`.

    Raises:
        InputError: The message names the output and what is in the way.
    """
    chosen = {flag: path for flag, path in files.items() if path is not None and path != STDOUT}
    new = {flag: path for flag, path in (folders or {}).items() if path is not None}
    check_json(files.get("--json"), is_result)
    for flag, path in chosen.items():
        if flag != "--json":
            check_output(path)
        if flag == "--save-cameras":
            check_json_name(flag, path)
    for path in new.values():
        check_new_folder(path)
    for (flag, path), (other, second) in combinations((chosen | new).items(), 2):
        if _is_inside(path, second) or _is_inside(second, path):
            raise UsageError(f"{flag} and {other} would both write {path}; choose two files")
    if not force:
        for flag, path in chosen.items():
            _check_input_stays(flag, path, [given for given in inputs if given is not None])


def _is_inside(path: Path, folder: Path) -> bool:
    """Return whether a path is that of a folder or a file, or of something below it."""
    return path.resolve().is_relative_to(folder.resolve())


def _check_input_stays(flag: str, path: Path, inputs: Iterable[Path]) -> None:
    for given in inputs if path.exists() else ():
        if given.exists() and path.samefile(given):
            raise InputError(
                f"{flag} {path} is the input {given} itself; choose another output, or pass "
                "--force to replace it"
            )
        if given.is_dir() and _is_inside(path, given):
            raise _would_replace(flag, path, given)


def _would_replace(flag: str, path: Path, owner: Path) -> InputError:
    return InputError(
        f"{flag} {path} would replace a file of the input {owner}; choose another output, or pass "
        "--force to replace it"
    )


def check_capture_stays(
    outputs: Mapping[str, Path | None], capture: "Capture", force: bool = False
) -> None:
    """Check that no output replaces a photo or another file in the folders of a capture.

    Args:
        outputs: Files and folders to write, by option; None and standard output do not count.
        capture: A capture that is read.
        force: Whether they may be replaced, except a folder with photos.

    Raises:
        InputError: The message names the output.
    """
    photos = [frame.image_path.resolve() for frame in capture.frames]
    masks = [frame.mask_path.resolve() for frame in capture.frames if frame.mask_path is not None]
    root = capture.root.resolve()
    folders = {photo.parent for photo in photos}
    # Not the folder of a camera file whose photos are elsewhere.
    if capture.kind != "images" and any(photo.is_relative_to(root) for photo in photos):
        folders.add(root)
    for flag, path in outputs.items():
        if path is None or path == STDOUT or not path.exists():
            continue
        target = path.resolve()
        if path.is_dir():
            if any(photo.is_relative_to(target) and photo.exists() for photo in photos):
                raise InputError(
                    f"cannot write {path}: it contains photos of {capture.title}, which would be "
                    "lost; choose a new folder"
                )
            if not any(path.iterdir()):
                continue
        if not force and (
            target in photos
            or target in masks
            or any(target.is_relative_to(folder) for folder in folders)
        ):
            raise _would_replace(flag, path, capture.title)


def expected_bytes(path: Path, count: int, sh_degree: int = 0) -> float:
    """Estimate the space that a scene file takes on the disk while it is written (bytes).

    Args:
        path: Name of the file, whose extension chooses the format.
        count: Number of Gaussians.
        sh_degree: Degree of the spherical harmonics.
    """
    base, rest = _by_extension(BYTES_PER_GAUSSIAN, path)
    return float(count) * (base + rest * ((sh_degree + 1) ** 2 - 1))


def expected_point_bytes(path: Path, count: int, is_far: bool) -> float:
    """Estimate the size of a point cloud (bytes).

    Args:
        path: Name of the file, whose extension chooses the format.
        count: Number of points.
        is_far: Whether float32 cannot hold its coordinates.
    """
    near, far = _by_extension(BYTES_PER_POINT, path)
    return float(count) * (far if is_far else near)


def _by_extension(sizes: Mapping[str, tuple[int, int]], path: Path) -> tuple[int, int]:
    """Return what belongs to the longest extension that fits a name."""
    name = path.name.lower()
    return sizes[max((e for e in sizes if name.endswith(e)), key=len)]
