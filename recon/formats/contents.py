"""What a scene file holds by its content: they are often misnamed.

The first bytes decide; `.splat` has none that tell it.
"""

import zipfile
import zlib
from pathlib import Path

from recon.errors import InputError
from recon.formats.sog_archive import META, NOT_A_ZIP
from recon.photo_extensions import is_image, is_video
from recon.scene_extensions import SCENE_EXTENSIONS
from recon.stand_ins import check_stand_in, head_of

# A texture of every unbundled SOG.
MEANS = "means_l.webp"
# Extensions of formats that are no zip archives.
NO_ZIPS = set(SCENE_EXTENSIONS) - {".sog", ".usdz"}
# With the method of compression: two bytes alone may begin any binary file.
GZIP, ZIP = b"\x1f\x8b\x08", b"PK\x03\x04"
# The first file of a package is its root layer.
USD_LAYERS = (".usd", ".usda", ".usdc")


def extension_by_content(path: Path) -> str | None:
    """Return the extension of the scene format that a file has; None if its content tells none."""
    head = head_of(path)
    if head.startswith((b"ply\n", b"ply\r")):
        return ".ply"
    if head.startswith(b"NGSP") or (head.startswith(GZIP) and _unzipped(head, 4) == b"NGSP"):
        return ".spz"
    if head.startswith(b"glTF"):
        return ".glb"
    if head.startswith(b"PXR-USDC"):
        return ".usdc"
    if head.startswith(b"#usda "):
        return ".usda"
    if head.startswith(ZIP) and _is_usd_package(path):
        return ".usdz"
    if head.startswith(ZIP) and (scenes := scenes_in(path)):
        return ".sog" if all(Path(name).name == META for name in scenes) else None
    return None


def check_content(path: Path, extension: str) -> None:
    """Raise InputError that says what a file is, if it cannot be of the format of its extension."""
    head = head_of(path)
    check_stand_in(path, head)
    problem = ""
    if head.startswith(GZIP) and extension != ".spz":
        problem = "it is compressed with gzip; unpack it first"
    elif head.startswith(ZIP) and extension in NO_ZIPS:
        problem = "it is a zip archive; unpack it and pass the scene in it"
    if problem:
        raise InputError(f"cannot read {path}: {problem}")


def _unzipped(head: bytes, count: int) -> bytes:
    """Return the first bytes that the beginning of a gzip unpacks to; none if it is damaged."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, count)
    except zlib.error:
        return b""


def scenes_in(archive: Path) -> list[str]:
    """Return the names of the scenes in a zip archive that holds scenes, and no photos or video.

    An unbundled SOG is named by its meta.json; its textures are no photos.
    """
    if not archive.is_file():  # To open a named pipe waits for a writer.
        return []
    try:
        with zipfile.ZipFile(archive) as opened:
            files = [Path(name) for name in opened.namelist() if not name.endswith("/")]
    except NOT_A_ZIP:
        return []
    files = [file for file in files if not file.name.startswith(".")]
    sogs = [file for file in files if file.name == META and file.parent / MEANS in files]
    folders = [file.parent for file in sogs]
    if any(is_image(file) or is_video(file) for file in files if file.parent not in folders):
        return []
    scenes = [file for file in files if file.name.lower().endswith(SCENE_EXTENSIONS)]
    return [file.as_posix() for file in scenes + sogs]


def _is_usd_package(path: Path) -> bool:
    """Return whether a zip archive is a package of USD, whose files are not compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            first = next(iter(archive.infolist()), None)
    except NOT_A_ZIP:
        return False
    stored = first is not None and first.compress_type == zipfile.ZIP_STORED
    return first is not None and stored and first.filename.lower().endswith(USD_LAYERS)
