"""LLFF's `poses_bounds.npy` (Mildenhall et al. 2019, "Local Light Field Fusion").

Each row: a 3x5 matrix (camera-to-world with axes down, right, back; then height,
width, focal) and the nearest and farthest depth.
"""

from functools import partial
from pathlib import Path
from tokenize import TokenError

import numpy as np
from jaxtyping import Float

from recon.capture.geometry import Intrinsics, checked_K, viewmat_from_c2w
from recon.capture.images import image_size, list_images
from recon.capture.masks import without_masks
from recon.capture.names import FOLDERS, find_photos
from recon.capture.orientation import fits_oriented
from recon.capture.types import Capture, Frame, FrameCamera
from recon.capture.valid_frames import check_shape, valid_frames
from recon.errors import InputError, warn

IMAGE_FOLDERS = ("images", "images_2", "images_4", "images_8")
OTHER_FOLDERS = {*IMAGE_FOLDERS, *FOLDERS}


def read_llff(path: Path, photos: bool = True) -> Capture:
    """Read a poses_bounds.npy and its images, one per row in natural order.

    The images are in the folder `images` beside it, or else in one of LLFF's smaller copies or a
    folder of another usual name.

    Args:
        path: The file.
        photos: Whether the photos are used, and not only their cameras.

    Raises:
        InputError: The array or all its rows are invalid, or there are more or fewer images than
            rows.
    """
    table = _read_table(path)
    images = _images(path.parent, len(table), path)
    # Only photos whose header can be read.
    names = [image.relative_to(path.parent).as_posix() for image in images]
    found = find_photos(path.parent, names, str(path))
    made = [
        (image.name, photo, partial(_frame, row, path.parent, f"{path}, row {i}"))
        for i, (row, image, photo) in enumerate(zip(table, images, found, strict=True))
    ]
    frames, lost = valid_frames(str(path), made, num_needed=2 if photos else 1)
    return Capture(path.parent, "llff", frames, left_out=lost)


def _images(folder: Path, count: int, path: Path) -> list[Path]:
    """Return the images of the likeliest folder that has one per camera."""
    names = [name for name in IMAGE_FOLDERS if list_images(folder / name)]
    names += [
        child.name
        for child in sorted(folder.iterdir())
        if child.is_dir() and child.name.lower() in OTHER_FOLDERS and child.name not in names
    ]
    found = {name: without_masks(list_images(folder / name)) for name in [*names, "."]}
    for name, images in found.items():
        if len(images) == count:
            if name != IMAGE_FOLDERS[0]:
                warn(f"{path}: its photos are those in {name}")
            return images
    counts = [f"{name} holds {len(images)} images" for name, images in found.items() if images]
    raise InputError(
        f"{path} has {count} cameras but {', '.join(counts) or f'{folder} holds no images'}; "
        "expected one image per camera, in the order of their names"
    )


def _read_table(path: Path) -> Float[np.ndarray, "n 17"]:
    try:
        table = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, MemoryError, TokenError) as error:
        raise InputError(
            f"{path} is not a NumPy array file; expected LLFF's n x 17 array of numbers"
        ) from error
    if not isinstance(table, np.ndarray) or table.dtype.kind not in "fiu":
        raise InputError(f"{path} does not hold numbers; expected LLFF's n x 17 array of numbers")
    if table.ndim != 2 or table.shape[1] != 17 or len(table) == 0:
        raise InputError(f"{path} has shape {table.shape}; expected LLFF's (photos, 17)")
    return table.astype(np.float64)


def _frame(row: Float[np.ndarray, "17"], root: Path, where: str, image: Path) -> Frame:
    matrix = row[:15].reshape(3, 5)
    c2w = np.eye(4)
    # The columns are down, right, back, position; recon's are right, down, forward, position.
    c2w[:3] = np.stack([matrix[:, 1], matrix[:, 0], -matrix[:, 2], matrix[:, 3]], 1)
    height, width, focal = matrix[:, 4]
    near, far = float(row[15]), float(row[16])
    if not (np.isfinite(row[[4, 9]]).all() and height > 0 and width > 0):
        raise InputError(f"{where}: height and width must be above 0, found {height:g}, {width:g}")
    if not 0 < near < far < np.inf:
        raise InputError(f"{where}: expected 0 < near < far, found near {near:g}, far {far:g}")
    given = round(width), round(height)
    size = image_size(image)
    oriented = fits_oriented(image, given)
    photo_width, photo_height = size[::-1] if oriented else size
    check_shape((photo_width, photo_height), given, image)
    fx, fy = focal * photo_width / width, focal * photo_height / height
    center = photo_width / 2, photo_height / 2
    camera = FrameCamera(
        viewmat_from_c2w(c2w, f"{where}: camera matrix"),
        checked_K(Intrinsics(fx, fy, *center, photo_width, photo_height), where),
        photo_width,
        photo_height,
    )
    name = image.relative_to(root).as_posix()
    return Frame(name, image, camera, oriented=oriented, depth_bounds=(near, far))
