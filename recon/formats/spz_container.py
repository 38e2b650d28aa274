"""The containers of SPZ: gzip around one stream, or a table of zstd streams."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from recon.errors import InputError, MissingDependency, listed, warn

MAGIC = 0x5053474E
# Flags of the header, and extensions: the axes of the scene, and limits of a viewer's camera.
ANTIALIASED, HAS_EXTENSIONS = 1, 2
AXES_EXTENSION, ORBIT_EXTENSION = 0xADBE0003, 0xADBE0002
GZIP = b"\x1f\x8b"
# Largest ratio of decompressed to compressed size: scenes reach 10, more than 100 is an attack.
MAX_RATIO = 100
# Files below this size are exempt (bytes); also the size of a decompressed piece.
SMALL = 1 << 20
# Bytes that extensions may take, and the highest number of axes.
MAX_EXTENSIONS, MAX_AXES = 1 << 16, 16


@dataclass(frozen=True)
class SpzHeader:
    """Header fields of an SPZ, as read."""

    version: int
    count: int
    sh_degree: int
    fraction_bits: int
    flags: int = 0
    axes: int = 0
    """Declared axes (see `recon.formats.spz`), from an extension; 0 if there is none."""

    @property
    def antialiased(self) -> bool:
        """Whether the scene is for rendering with the 2D filter of Mip-Splatting."""
        return bool(self.flags & ANTIALIASED)

    def packed(self, magic: int) -> bytes:
        """Return the 16 bytes of the header of versions 1 to 3."""
        numbers = self.version, self.count, self.sh_degree, self.fraction_bits
        return struct.pack("<IIIBBBB", magic, *numbers, self.flags & ANTIALIASED, 0)

    def widths(self) -> dict[str, int]:
        """Return the bytes per Gaussian of each stream, in file order."""
        position, rotation = 6 if self.version == 1 else 9, 3 if self.version < 3 else 4
        sh = 3 * ((self.sh_degree + 1) ** 2 - 1)
        return {
            "positions": position, "alphas": 1, "colors": 3, "scales": 3, "rotations": rotation,
            "sh": sh,
        }  # fmt: skip


def read_spz(path: Path) -> tuple[SpzHeader, dict[str, np.ndarray]]:
    """Read the header and the decompressed streams, [count, width] bytes each.

    Raises:
        InputError: The file is damaged, of an unknown version, or a decompression bomb.
    """
    data = path.read_bytes()
    if data[:2] == GZIP:
        return _read_gzip(path, data)
    if len(data) >= 32 and data[:4] == struct.pack("<I", MAGIC):
        return _read_zstd(path, data)
    raise InputError(f"{path} is not an SPZ file: expected gzip or NGSP at its start")


def _checked(path: Path, header: SpzHeader, size: int) -> SpzHeader:
    if not 1 <= header.version <= 4:
        raise InputError(
            f"{path}: expected SPZ version 1 to 4, found {header.version}; write an older version "
            "with the tool that made it, or update recon"
        )
    if header.sh_degree > 4 or header.fraction_bits > 23:
        raise InputError(
            f"{path} has an invalid SPZ header: SH degree {header.sh_degree} (0 to 4), "
            f"{header.fraction_bits} fraction bits (0 to 23)"
        )
    if header.count * sum(header.widths().values()) > max(MAX_RATIO * size, SMALL):
        raise InputError(
            f"{path} is damaged: {header.count} Gaussians do not fit into {size} bytes"
        )
    return header


def _read_gzip(path: Path, data: bytes) -> tuple[SpzHeader, dict[str, np.ndarray]]:
    unpacked = _Unpacked(path, data)
    magic, *numbers = struct.unpack("<IIIBBBB", unpacked.take(16))
    if magic != MAGIC:
        raise InputError(f"{path} is not an SPZ file: expected NGSP inside the gzip")
    header = _checked(path, SpzHeader(*numbers[:5]), len(data))
    streams = {
        name: _rows(unpacked.take(header.count * width), header.count, width)
        for name, width in header.widths().items()
    }
    if header.flags & HAS_EXTENSIONS:
        header = _with_extensions(path, header, unpacked.rest(MAX_EXTENSIONS))
    return header, streams


def _with_extensions(path: Path, header: SpzHeader, data: bytes) -> SpzHeader:
    """Read the axes from a list of records (type, size, bytes); name those that are not read."""
    at, axes, unread = 0, 0, []
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        if at + 8 + size > len(data):
            break
        if kind == AXES_EXTENSION and size == 4:
            (axes,) = struct.unpack_from("<I", data, at + 8)
        else:
            name = " (limits of the camera)" if kind == ORBIT_EXTENSION else ""
            unread.append(f"0x{kind:08X}{name}")
        at += 8 + size
    if at != len(data):
        raise InputError(f"{path} is damaged: its extensions end within a record")
    if axes > MAX_AXES:
        raise InputError(f"{path} declares unknown axes ({axes}); expected 0 to {MAX_AXES}")
    if unread:
        warn(f"{path}: not read: SPZ extension {listed(unread)}")
    return replace(header, axes=axes)


def _rows(raw: bytes, count: int, width: int) -> np.ndarray:
    return np.frombuffer(raw, np.uint8).reshape(count, width)


class _Unpacked:
    """Bytes decompressed from gzip, no more than are asked for."""

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.pieces, self.pending = path, self._pieces(data), b""

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        unpacker = zlib.decompressobj(wbits=31)
        while data and not unpacker.eof:
            try:
                yield unpacker.decompress(data, SMALL)
            except zlib.error as error:
                raise InputError(f"{self.path} is damaged: {error}") from error
            data = unpacker.unconsumed_tail

    def take(self, size: int) -> bytes:
        """Return the next bytes; raise InputError if there are fewer."""
        pieces, total = [self.pending], len(self.pending)
        while total < size:
            piece = next(self.pieces, None)
            if piece is None:
                raise InputError(f"{self.path} is truncated: {size} bytes needed, {total} found")
            pieces.append(piece)
            total += len(piece)
        joined = b"".join(pieces)
        self.pending = joined[size:]
        return joined[:size]

    def rest(self, limit: int) -> bytes:
        """Return all bytes that are left, at most `limit`."""
        pieces, total = [self.pending], len(self.pending)
        while total <= limit and (piece := next(self.pieces, None)) is not None:
            pieces.append(piece)
            total += len(piece)
        return b"".join(pieces)[:limit]


def _read_zstd(path: Path, data: bytes) -> tuple[SpzHeader, dict[str, np.ndarray]]:
    numbers = struct.unpack_from("<IIBBBBI", data, 4)
    header = _checked(path, SpzHeader(*numbers[:5]), len(data))
    streams, table = numbers[5], numbers[6]
    widths = {name: width for name, width in header.widths().items() if width or name == "sh"}
    if streams < 5 or table < 32 or table + 16 * streams > len(data):
        raise InputError(f"{path} has an invalid table of streams ({streams} at byte {table})")
    if header.flags & HAS_EXTENSIONS:
        header = _with_extensions(path, header, data[32:table])
    start, arrays = table + 16 * streams, {}
    for index, (name, width) in enumerate(widths.items()):
        size = unpacked = 0
        if index < streams:
            size, unpacked = struct.unpack_from("<QQ", data, table + 16 * index)
        expected = header.count * width
        if unpacked != expected or start + size > len(data):
            raise InputError(
                f"{path} is damaged: stream {name} should be {expected} bytes, not {unpacked}, "
                f"and end before byte {len(data)}"
            )
        raw = _unzstd(path, data[start : start + size], expected) if expected else b""
        arrays[name] = _rows(raw, header.count, width)
        start += size
    return header, arrays


def _unzstd(path: Path, data: bytes, size: int) -> bytes:
    try:
        import zstandard
    except ImportError:
        raise MissingDependency(
            f"{path} is SPZ of version 4, which needs Zstandard: pip install 'reconsplat[spz]'"
        ) from None
    try:
        with zstandard.ZstdDecompressor().stream_reader(data) as reader:
            raw = reader.read(size)
    except zstandard.ZstdError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    if len(raw) != size:
        raise InputError(f"{path} is truncated: a stream has {len(raw)} bytes of {size}")
    return raw
