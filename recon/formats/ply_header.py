"""The header of a PLY file and its table of vertices."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Float

from recon.errors import InputError, warn

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
    """(name, NumPy type) in file order; of a list, the type of its values."""
    counts: dict[str, str] = field(default_factory=dict)
    """NumPy types of the lengths of those properties that are lists."""


@dataclass(frozen=True)
class PlyHeader:
    """Header of a PLY, whose elements may come in any order."""

    encoding: str
    elements: tuple[PlyElement, ...]
    comments: tuple[str, ...] = ()

    @property
    def vertex(self) -> int:
        """Index of the element with the vertices; the first one if none has that name."""
        names = [element.name for element in self.elements]
        return names.index("vertex") if "vertex" in names else 0

    @property
    def count(self) -> int:
        """Number of vertices."""
        return self.elements[self.vertex].count

    @property
    def properties(self) -> list[tuple[str, str]]:
        """Properties of the vertices."""
        return self.elements[self.vertex].properties

    @property
    def dtype(self) -> np.dtype:
        """Layout of one vertex."""
        return self.layout(self.vertex)

    def layout(self, element: int) -> np.dtype:
        """Return the layout of one row of an element without lists."""
        order = _ORDERS[self.encoding]
        return np.dtype([(name, order + kind) for name, kind in self.elements[element].properties])


def read_header(path: Path, file: BinaryIO) -> PlyHeader:
    """Parse the header, leaving the file at its end; raise InputError if it is malformed."""
    if file.readline(16).strip() != b"ply":
        raise InputError(f"{path} is not a PLY file: expected it to start with 'ply'")
    encoding = ""
    elements: list[PlyElement] = []
    comments: list[str] = []
    for words in _header_lines(path, file):
        try:
            if words[:1] == ["format"]:
                encoding = words[1]
            elif words[:1] == ["comment"]:
                comments.append(" ".join(words[1:]))
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
    return PlyHeader(encoding, tuple(elements), tuple(comments))


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
    element = elements[-1]
    is_list = words[1] == "list"
    if is_list and element.name == "vertex":
        raise InputError(f"{path} has a list property {words[-1]!r} on its vertices; not Gaussians")
    kinds = words[2:4] if is_list else words[1:2]
    unknown = [kind for kind in kinds if kind not in _TYPES]
    if unknown:
        raise InputError(f"{path} has a property of unknown type {unknown[0]!r}")
    name = words[4] if is_list else words[2]
    if name in dict(element.properties):
        raise InputError(f"{path} has two properties {name!r} on its {element.name}")
    element.properties.append((name, _TYPES[kinds[-1]]))
    if is_list:
        element.counts[name] = _TYPES[kinds[0]]


def degree_of_rest(path: Path, rest: int) -> int:
    """Return the SH degree for a number of properties f_rest_*; raise InputError if none has it."""
    if rest not in NUM_REST_BY_DEGREE:
        raise InputError(f"{path} has {rest} f_rest properties; expected 0, 9, 24, 45 or 72")
    return NUM_REST_BY_DEGREE.index(rest)


def read_table(path: Path, file: BinaryIO, header: PlyHeader) -> np.ndarray:
    """Return the vertices as a structured array, and warn of bytes that no element has.

    Raises:
        InputError: The file is too short.
    """
    before = header.elements[: header.vertex]
    if header.encoding == "ascii":
        for _ in range(sum(element.count for element in before)):
            if not file.readline():
                raise InputError(f"{path} is truncated: it ends before its vertices")
        return _read_ascii(path, file, header)
    size = path.stat().st_size
    for index, element in enumerate(before):
        if element.counts:
            _skip_lists(path, file, element, _ORDERS[header.encoding])
        else:
            file.seek(element.count * header.layout(index).itemsize, 1)
    expected = header.count * header.dtype.itemsize
    found = max(size - file.tell(), 0)
    if found < expected:
        raise InputError(
            f"{path} is truncated: {header.count} vertices need {expected} bytes, found {found}"
        )
    after = range(header.vertex + 1, len(header.elements))
    if not any(header.elements[i].counts for i in after):
        following = sum(header.elements[i].count * header.layout(i).itemsize for i in after)
        tell_ignored(path, found - expected - following, max(header.dtype.itemsize, 1))
    return mapped_table(path, file.tell(), header.dtype, header.count)


def tell_ignored(path: Path, size: int, row_size: int) -> None:
    """Warn of bytes at the end of a file that its header does not declare; a line end is none."""
    if size > len("\r\n"):
        warn(
            f"{path}: {size:,} bytes at its end are ignored ({size // row_size:,} vertices), since "
            "its header declares fewer; the file may be damaged"
        )


def _skip_lists(path: Path, file: BinaryIO, element: PlyElement, order: str) -> None:
    """Skip the rows of an element with lists, whose lengths must be read one by one."""
    for _ in range(element.count):
        for name, kind in element.properties:
            count = 1
            if name in element.counts:
                length = np.dtype(order + element.counts[name])
                raw = file.read(length.itemsize)
                if len(raw) < length.itemsize:
                    raise InputError(f"{path} is truncated: it ends within {element.name}")
                count = int(np.frombuffer(raw, length)[0])
                if count < 0:
                    raise InputError(f"{path} is damaged: a list of {count} values")
            file.seek(count * np.dtype(kind).itemsize, 1)


def read_points(path: Path) -> Float[np.ndarray, "n 3"]:
    """Return the positions of the vertices of any PLY, as float64.

    Raises:
        InputError: The file is damaged, or its vertices have no x, y and z.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        missing = {"x", "y", "z"} - {name for name, _ in header.properties}
        if missing:
            raise InputError(f"{path}: its vertices have no {', '.join(sorted(missing))}")
        return positions(read_table(path, file, header))


def positions(table: np.ndarray) -> Float[np.ndarray, "n 3"]:
    """Return x, y and z of the rows of a table of vertices, as float64."""
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
    if header.vertex == len(header.elements) - 1:
        ignored = sum(bool(line.strip()) for line in file)
        if ignored:
            warn(
                f"{path}: {ignored:,} lines at its end are ignored, since its header declares "
                f"{header.count:,} vertices; the file may be damaged"
            )
    table = np.zeros(header.count, header.dtype)
    for column, (name, _) in enumerate(header.properties):
        table[name] = rows[:, column]
    return table
