"""What a file holds by its content: scenes are often misnamed, or missing.

The first bytes decide; `.splat` has none that tell it.
"""

import zipfile
import zlib
from pathlib import Path

from recon.errors import InputError
from recon.formats.sog_archive import is_meta_name

HEAD_BYTES = 512
GZIP, ZIP = b"\x1f\x8b", b"PK\x03\x04"
# What download tools and Git leave instead of a file: beginning in lower case, description.
STAND_INS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file; run `git lfs pull`",
    b"<!doctype html": "it is a web page, as failed downloads leave it; download it again",
    b"<html": "it is a web page, as failed downloads leave it; download it again",
}


def head_of(path: Path) -> bytes:
    """Return the first bytes of a file; none if it cannot be read or is no regular file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError:
        return b""


def stand_in(head: bytes) -> str:
    """Say what stands for the content of a file, and the remedy; empty if nothing does."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((text for mark, text in STAND_INS.items() if start.startswith(mark)), "")


def check_stand_in(path: Path, content: bytes | None = None) -> None:
    """Raise InputError if a file holds something that stands for it only."""
    if problem := stand_in(head_of(path) if content is None else content[:HEAD_BYTES]):
        raise InputError(f"cannot read {path}: {problem}")


def extension_by_content(path: Path) -> str | None:
    """Return the extension of the scene format that a file has; None if its content tells none."""
    head = head_of(path)
    if head.startswith((b"ply\n", b"ply\r")):
        return ".ply"
    if head.startswith(b"NGSP") or (head.startswith(GZIP) and _unzipped(head, 4) == b"NGSP"):
        return ".spz"
    if head.startswith(b"glTF"):
        return ".glb"
    if head.startswith(ZIP) and _is_sog(path):
        return ".sog"
    return None


def check_content(path: Path, extension: str) -> None:
    """Raise InputError that says what a file is, if it cannot be of the format of its extension."""
    head = head_of(path)
    check_stand_in(path, head)
    problem = ""
    if head.startswith(GZIP) and extension != ".spz":
        problem = "it is compressed with gzip; unpack it first"
    elif head.startswith(ZIP) and extension != ".sog":
        problem = "it is a zip archive; unpack it and pass the scene in it"
    if problem:
        raise InputError(f"cannot read {path}: {problem}")


def _unzipped(head: bytes, count: int) -> bytes:
    """Return the first bytes that the beginning of a gzip unpacks to; none if it is damaged."""
    try:
        return zlib.decompressobj(wbits=31).decompress(head, count)
    except zlib.error:
        return b""


def _is_sog(path: Path) -> bool:
    """Return whether a zip archive holds a SOG, or several."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
    has_textures = any(name.endswith("means_l.webp") for name in names)
    return has_textures and any(map(is_meta_name, names))
