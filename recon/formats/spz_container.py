"""The containers of SPZ: gzip around one stream, or a table of zstd streams."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recon.errors import InputError, MissingDependency

MAGIC = 0x5053474E
GZIP = b"\x1f\x8b"
# Largest ratio of decompressed to compressed size: scenes reach 10, more than 100 is an attack.
MAX_RATIO = 100
# Files below this size are exempt (bytes); also the size of a decompressed piece.
SMALL = 1 << 20


@dataclass(frozen=True)
class SpzHeader:
    """Header fields of an SPZ, as read."""

    version: int
    count: int
    sh_degree: int
    fraction_bits: int

    def packed(self, magic: int) -> bytes:
        """Return the 16 bytes of the header of versions 1 to 3."""
        numbers = (magic, self.version, self.count, self.sh_degree, self.fraction_bits, 0, 0)
        return struct.pack("<IIIBBBB", *numbers)

    def widths(self) -> dict[str, int]:
        """Return the bytes per Gaussian of each stream, in file order."""
        rotation = 3 if self.version == 2 else 4
        sh = 3 * ((self.sh_degree + 1) ** 2 - 1)
        return {
            "positions": 9, "alphas": 1, "colors": 3, "scales": 3, "rotations": rotation, "sh": sh
        }  # fmt: skip


def read_spz(path: Path) -> tuple[SpzHeader, dict[str, np.ndarray]]:
    """Read the header and the decompressed streams, [count, width] bytes each.

    Raises:
        InputError: The file is damaged, of version 1, or a decompression bomb.
    """
    data = path.read_bytes()
    if data[:2] == GZIP:
        return _read_gzip(path, data)
    if len(data) >= 32 and data[:4] == struct.pack("<I", MAGIC):
        return _read_zstd(path, data)
    raise InputError(f"{path} is not an SPZ file: expected gzip or NGSP at its start")


def _checked(path: Path, header: SpzHeader, size: int) -> SpzHeader:
    if header.version not in (2, 3, 4):
        raise InputError(f"{path}: expected SPZ version 2, 3 or 4, found {header.version}")
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
    header = _checked(path, SpzHeader(*numbers[:4]), len(data))
    streams = {
        name: _rows(unpacked.take(header.count * width), header.count, width)
        for name, width in header.widths().items()
    }
    return header, streams


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


def _read_zstd(path: Path, data: bytes) -> tuple[SpzHeader, dict[str, np.ndarray]]:
    numbers = struct.unpack_from("<IIBBBBI", data, 4)
    header = _checked(path, SpzHeader(*numbers[:4]), len(data))
    streams, table = numbers[5], numbers[6]
    widths = {name: width for name, width in header.widths().items() if width or name == "sh"}
    if streams < 5 or table < 32 or table + 16 * streams > len(data):
        raise InputError(f"{path} has an invalid table of streams ({streams} at byte {table})")
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
