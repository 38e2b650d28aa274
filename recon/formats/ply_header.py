"""The header of a PLY file and its table of vertices."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from recon.errors import InputError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
MAX_HEADER_BYTES = 65536
# Number of properties f_rest_* by SH degree.
NUM_REST_BY_DEGREE = (0, 9, 24, 45, 72)


@dataclass
class PlyElement:
    """An element (table) of a PLY."""

    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)
    """(name, NumPy type) in file order."""


@dataclass(frozen=True)
class PlyHeader:
    """Header of a PLY. The first element has the vertices, or the chunks that describe them."""

    encoding: str
    elements: tuple[PlyElement, ...]

    @property
    def count(self) -> int:
        """Number of rows of the first element."""
        return self.elements[0].count

    @property
    def properties(self) -> list[tuple[str, str]]:
        """Properties of the first element."""
        return self.elements[0].properties

    @property
    def dtype(self) -> np.dtype:
        """Layout of one row of the first element."""
        return self.layout(0)

    def layout(self, element: int) -> np.dtype:
        """Return the layout of one row of an element."""
        order = _ORDERS[self.encoding]
        return np.dtype([(name, order + kind) for name, kind in self.elements[element].properties])


def read_header(path: Path, file: BinaryIO) -> PlyHeader:
    """Parse the header, leaving the file at its end; raise InputError if it is malformed."""
    if file.readline(16).strip() != b"ply":
        raise InputError(f"{path} is not a PLY file: expected it to start with 'ply'")
    encoding = ""
    elements: list[PlyElement] = []
    for words in _header_lines(path, file):
        try:
            if words[:1] == ["format"]:
                encoding = words[1]
            elif words[:1] == ["element"]:
                elements.append(PlyElement(words[1], int(words[2])))
            elif words[:1] == ["property"] and elements:
                _add_property(path, elements, words)
        except (IndexError, ValueError) as error:
            raise InputError(
                f"{path} has a malformed PLY header line: {' '.join(words)!r}"
            ) from error
    if encoding not in _ORDERS or not elements or min(e.count for e in elements) < 0:
        raise InputError(
            f"{path} has no usable PLY header: expected a format and an element vertex"
        )
    return PlyHeader(encoding, tuple(elements))


def _header_lines(path: Path, file: BinaryIO) -> Iterator[list[str]]:
    """Yield the words of each line before end_header; raise InputError if there is none."""
    while file.tell() < MAX_HEADER_BYTES:
        line = file.readline(4096)
        if line.strip() == b"end_header":
            return
        if not line.endswith(b"\n"):
            break
        yield line.decode("ascii", "replace").split()
    raise InputError(f"{path} has no end_header; the file is damaged or truncated")


def _add_property(path: Path, elements: list[PlyElement], words: list[str]) -> None:
    first = len(elements) == 1
    if words[1] == "list" and first:
        raise InputError(f"{path} has a list property {words[-1]!r} on its vertices; not Gaussians")
    if words[1] not in _TYPES and first:
        raise InputError(f"{path} has a property of unknown type {words[1]!r}")
    name = words[2]
    if name in dict(elements[-1].properties):
        raise InputError(f"{path} has two properties {name!r} on its {elements[-1].name}")
    # Elements after the vertices, such as faces, may have properties of any type.
    elements[-1].properties.append((name, _TYPES.get(words[1], "u1")))


def degree_of_rest(path: Path, rest: int) -> int:
    """Return the SH degree for a count of properties f_rest_*; raise InputError if none has it."""
    if rest not in NUM_REST_BY_DEGREE:
        raise InputError(f"{path} has {rest} f_rest properties; expected 0, 9, 24, 45 or 72")
    return NUM_REST_BY_DEGREE.index(rest)


def read_table(path: Path, file: BinaryIO, header: PlyHeader) -> np.ndarray:
    """Return the vertices as a structured array; raise InputError if the file is too short."""
    if header.encoding == "ascii":
        return _read_ascii(path, file, header)
    expected = header.count * header.dtype.itemsize
    found = path.stat().st_size - file.tell()
    if found < expected:
        raise InputError(
            f"{path} is truncated: {header.count} vertices need {expected} bytes, found {found}"
        )
    return mapped_table(path, file.tell(), header.dtype, header.count)


def read_points(path: Path) -> Float[np.ndarray, "n 3"]:
    """Return the positions of the vertices of any PLY, as float64.

    Raises:
        InputError: The file is damaged, or its vertices have no x, y and z.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        missing = {"x", "y", "z"} - {name for name, _ in header.properties}
        if missing:
            raise InputError(f"{path}: its first element has no {', '.join(sorted(missing))}")
        table = read_table(path, file, header)
    return np.stack([table[axis].astype(np.float64) for axis in "xyz"], 1)


def mapped_table(path: Path, offset: int, dtype: np.dtype, count: int) -> np.ndarray:
    """Map rows of a file, which are read on access."""
    if count == 0 or dtype.itemsize == 0:
        return np.zeros(count, dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))


def _read_ascii(path: Path, file: BinaryIO, header: PlyHeader) -> np.ndarray:
    if header.count == 0:
        return np.zeros(0, header.dtype)
    # Each value takes at least a digit and a separator.
    if path.stat().st_size < 2 * header.count * len(header.properties):
        raise InputError(f"{path} is truncated: too small for {header.count} vertices")
    try:
        rows = np.loadtxt(file, dtype=np.float64, max_rows=header.count, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path} has a malformed line among its vertices: {error}") from error
    if rows.shape != (header.count, len(header.properties)):
        raise InputError(
            f"{path} is truncated: expected {header.count} vertices of {len(header.properties)} "
            f"values, found {rows.shape[0]} of {rows.shape[1]}"
        )
    table = np.zeros(header.count, header.dtype)
    for column, (name, _) in enumerate(header.properties):
        table[name] = rows[:, column]
    return table
