"""Sizes in binary layers of USD, checked before the library reserves memory for them.

A layer (OpenUSD, `pxr/usd/sdf/crateFile.h`) begins with a signature, a version and the offset of
its table of contents: the number of sections, and the name, start and size of each. Every section
begins with the number of its entries.
"""

import struct
import zipfile
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from recon.errors import InputError

SIGNATURE, OFFSET_AT, ENTRY = b"PXR-USDC", 16, struct.Struct("<16sqq")
COUNT = struct.Struct("<Q")
# Entries are compressed: many more than this for each byte of a section are no file of Gaussians.
MAX_PER_BYTE, MAX_SMALL = 64, 10_000
# What `ZipFile.open` returns: the first is its type at run time, the second the declared one.
Binary = BufferedIOBase | IO[bytes]


def check_sizes(path: Path, extension: str) -> None:
    """Check a binary layer, or those in a package.

    Raises:
        InputError: A size in it does not fit into the file.
    """
    try:
        if extension == ".usdc":
            with path.open("rb") as file:
                _check_layer(file, path.stat().st_size)
        elif extension == ".usdz":
            with zipfile.ZipFile(path) as archive:
                for member in archive.infolist():
                    if member.compress_type != zipfile.ZIP_STORED:
                        raise ValueError(f"{member.filename} in it is compressed")
                    with archive.open(member) as file:
                        _check_layer(file, member.file_size)
    except (OSError, ValueError, struct.error, zipfile.BadZipFile, NotImplementedError) as error:
        raise InputError(f"{path} is damaged: {error}") from error


def _check_layer(file: Binary, size: int) -> None:
    """Raise ValueError for a layer with sections beyond its end or with too many entries."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        return
    (start,) = struct.unpack("<q", _read(file, OFFSET_AT, 8))
    (count,) = COUNT.unpack(_read(file, start, COUNT.size))
    if count * ENTRY.size > size:
        raise ValueError(f"it has {count} sections in {size} bytes")
    table = _read(file, start + COUNT.size, count * ENTRY.size)
    for name, start, length in ENTRY.iter_unpack(table):
        if start < 0 or length < COUNT.size or start + length > size:
            raise ValueError(f"section {name[:8]!r} is not inside of it")
        (entries,) = COUNT.unpack(_read(file, start, COUNT.size))
        if entries > MAX_SMALL + MAX_PER_BYTE * length:
            raise ValueError(f"section {name[:8]!r} has {entries} entries in {length} bytes")


def _read(file: Binary, start: int, size: int) -> bytes:
    file.seek(max(start, 0))
    content = file.read(size)
    if len(content) != size or start < 0:
        raise ValueError("it is cut short")
    return content
