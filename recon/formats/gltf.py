"""glTF files, binary (.glb) or text (.gltf): the validated JSON, and arrays of the buffers."""

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import numpy as np

from recon.errors import InputError, shortened

# componentType -> NumPy type; integers of "normalized" accessors are mapped to [0, 1] or [-1, 1].
TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
# What may come before the text of a .gltf: a byte order mark and spaces.
BEFORE_TEXT = b"\xef\xbb\xbf \t\r\n"
# Sizes in the head of a .glb have 32 bits.
MAX_GLB_BYTES = 2**32 - 1
NO_CHANGES: Mapping[int, dict[str, Any]] = MappingProxyType({})
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}


@dataclass(frozen=True)
class Document:
    """Contents of a file, none of which is trusted."""

    path: Path
    json: dict[str, Any]
    binary: np.ndarray | None
    """Bytes of the binary chunk; None for text."""
    _opened: dict[int, np.ndarray] = field(default_factory=dict)
    """Buffers that were opened before."""

    def primitives(self) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
        """Yield the world-from-mesh matrix [4 4] and the primitive of every mesh of a node."""
        known: dict[int, np.ndarray] = {}
        for index in self._nodes_with("mesh"):
            mesh = self._item("meshes", self.json["nodes"][index]["mesh"])
            for primitive in objects(mesh.get("primitives")):
                yield self._world_from_node(index, NO_CHANGES, known), primitive

    def perspective_cameras(
        self, changes: Mapping[int, dict[str, Any]] = NO_CHANGES
    ) -> Iterator[tuple[str, np.ndarray, dict[str, Any]]]:
        """Yield name, world-from-camera matrix [4 4] and perspective of the nodes' cameras.

        Args:
            changes: Properties that nodes have instead of their own, by index.
        """
        known: dict[int, np.ndarray] = {}
        for index in self._camera_nodes:
            node = self.json["nodes"][index]
            perspective = self._item("cameras", node["camera"]).get("perspective")
            if isinstance(perspective, dict):
                matrix = self._world_from_node(index, changes, known)
                yield str(node.get("name", "camera")), matrix, perspective

    def nodes_of_cameras(self) -> set[int]:
        """Return the indices of the nodes that move cameras: their own, and all above these."""
        found: set[int] = set()
        for index in self._camera_nodes:
            at: int | None = index
            while at is not None and at not in found:
                found.add(at)
                at = self._parents[at]
        return found

    @cached_property
    def _camera_nodes(self) -> list[int]:
        return self._nodes_with("camera")

    def _nodes_with(self, key: str) -> list[int]:
        return [index for index in self._parents if key in self.json["nodes"][index]]

    @cached_property
    def _parents(self) -> dict[int, int | None]:
        """Index of the parent of every node, after its own; None for a root."""
        nodes = _list(self.json.get("nodes"))
        children = {
            child
            for node in objects(nodes)
            for child in _list(node.get("children"))
            if isinstance(child, int)
        }
        pending: list[tuple[int | None, Any]]
        pending = [(None, index) for index in range(len(nodes)) if index not in children]
        found: dict[int, int | None] = {}
        while pending:
            parent, index = pending.pop()
            node = self._item("nodes", index)
            if index in found:
                raise self.damaged(f"node {index} has two parents")
            found[index] = parent
            pending += [(index, child) for child in _list(node.get("children"))]
        return found

    def _world_from_node(
        self, index: int, changes: Mapping[int, dict[str, Any]], known: dict[int, np.ndarray]
    ) -> np.ndarray:
        """Return a matrix [4 4].

        Args:
            index: Of the node.
            changes: As in `perspective_cameras`.
            known: Matrices of other nodes, to which those on the way are added.
        """
        above: list[int] = []
        at: int | None = index
        while at is not None and at not in known:
            above.append(at)
            at = self._parents[at]
        matrix = np.eye(4) if at is None else known[at]
        for each in reversed(above):
            node = {**self.json["nodes"][each], **changes.get(each, {})}
            matrix = known[each] = matrix @ self._matrix(node)
        return matrix

    def _matrix(self, node: dict[str, Any]) -> np.ndarray:
        try:
            if "matrix" in node:
                return np.array(node["matrix"], np.float64).reshape(4, 4).T
            matrix = np.eye(4)
            x, y, z, w = np.array(node.get("rotation", [0, 0, 0, 1]), np.float64)
            scale = np.array(node.get("scale", [1, 1, 1]), np.float64).reshape(3)
            matrix[:3, :3] = _rotmat(w, x, y, z) * scale
            matrix[:3, 3] = np.array(node.get("translation", [0, 0, 0]), np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise self.damaged(f"invalid transform of a node: {error}") from error
        return matrix

    def accessor(self, attributes: dict[str, Any], name: str, width: int) -> np.ndarray:
        """Return an attribute as float32 [n width]; InputError if it is missing or invalid."""
        if name not in attributes:
            raise InputError(f"{self.path} has Gaussians without {name}")
        accessor = self._item("accessors", attributes[name])
        if "sparse" in accessor:
            raise self.damaged(f"{name} is sparse")
        kind, count = accessor.get("componentType"), self._integer(accessor, "count")
        if (
            not isinstance(kind, int)
            or kind not in TYPES
            or WIDTHS.get(str(accessor.get("type"))) != width
        ):
            raise self.damaged(f"{name} has an unexpected type")
        view = self._item("bufferViews", accessor.get("bufferView"))
        if compression := object_of(view, "extensions"):
            raise InputError(
                f"{self.path} has compressed {name} ({', '.join(compression)}), which recon does "
                "not read; write it without compression"
            )
        binary = self._buffer(view.get("buffer", 0), name)
        dtype = np.dtype(TYPES[kind])
        row = width * dtype.itemsize
        stride = self._integer(view, "byteStride", row)
        start = self._integer(view, "byteOffset", 0) + self._integer(accessor, "byteOffset", 0)
        if stride < row or count and start + (count - 1) * stride + row > len(binary):
            raise self.damaged(f"{name} reaches beyond the end of the file")
        if count == 0:
            return np.zeros((0, width), np.float32)
        bytes_ = np.lib.stride_tricks.as_strided(binary[start:], (count, row), (stride, 1))
        values = np.ascontiguousarray(bytes_).view(dtype).reshape(count, width)
        if accessor.get("normalized") and dtype.kind in "iu":
            return np.maximum(values / np.float32(np.iinfo(dtype).max), -1).astype(np.float32)
        return values.astype(np.float32)

    def _buffer(self, index: Any, name: str) -> np.ndarray:
        """Return the bytes of a buffer: of the file itself, or of one in its folder if it is text.

        Args:
            index: Of the buffer.
            name: Attribute that is in it, for messages.
        """
        if self.binary is not None:
            if index != 0:
                raise InputError(f"{self.path} keeps {name} in another file; expected one .glb")
            return self.binary
        entry = self._item("buffers", index)
        if index not in self._opened:
            uri = str(entry.get("uri", ""))
            inside = self._decoded(uri) if uri.startswith("data:") else self._mapped(uri)
            self._opened[index] = inside
        return self._opened[index]

    def _decoded(self, uri: str) -> np.ndarray:
        head, _, text = uri.partition(",")
        if not head.endswith(";base64"):
            raise self.damaged("a buffer in the file is not in base64")
        try:
            return np.frombuffer(base64.b64decode(text), np.uint8)
        except ValueError as error:
            raise self.damaged(f"a buffer in the file is not in base64: {error}") from error

    def _mapped(self, uri: str) -> np.ndarray:
        """Map a file, which must be in the folder of this one or below."""
        name = unquote(uri)
        parts = PurePosixPath(name).parts
        if not parts or parts[0] == "/" or ".." in parts or "\\" in name or ":" in name:
            raise InputError(
                f"{self.path} keeps its values in {shortened(uri)}; recon reads files in the "
                "folder of the .gltf only; put it there, or export one .glb"
            )
        file = self.path.parent.joinpath(*parts)
        try:
            if not file.is_file():
                raise InputError(f"{self.path} keeps its values in {file}, which is not there")
            return np.memmap(file, np.uint8, "r") if file.stat().st_size else np.zeros(0, np.uint8)
        except (OSError, ValueError) as error:
            raise self.damaged(f"{shortened(uri)} cannot be read: {error}") from error

    def total_bytes(self) -> int:
        """Return the size of the file, with those that it keeps values in."""
        size = self.path.stat().st_size
        if self.binary is None:
            uris = [str(entry.get("uri", "")) for entry in objects(self.json.get("buffers"))]
            files = {uri for uri in uris if not uri.startswith("data:")}
            size += sum(len(self._mapped(uri)) for uri in files)
        return size

    def _item(self, table: str, index: Any) -> dict[str, Any]:
        rows = _list(self.json.get(table))
        whole = isinstance(index, int) and not isinstance(index, bool)
        found = rows[index] if whole and 0 <= index < len(rows) else None
        if not isinstance(found, dict):
            raise self.damaged(f"no entry {shortened(index)} in {table}")
        return found

    def _integer(self, entry: dict[str, Any], key: str, default: int | None = None) -> int:
        value = entry.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.damaged(f"{key} must be a non-negative integer, found {shortened(value)}")
        return value

    def damaged(self, problem: str) -> InputError:
        """Return the error to raise."""
        return InputError(f"{self.path} is damaged: {problem}")


def check_glb_size(path: Path, size: int, others: str) -> None:
    """Raise InputError if a .glb would be larger than the format allows.

    Args:
        path: File to write.
        size: Of the file (bytes).
        others: Extensions of formats to choose instead.
    """
    if size > MAX_GLB_BYTES:
        raise InputError(
            f"cannot write {path}: it would have {size:,} bytes, and a .glb at most "
            f"{MAX_GLB_BYTES:,}; choose {others}"
        )


def read_document(path: Path) -> Document:
    """Read a .gltf or both chunks of a .glb; raise InputError if it is neither."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(20)
        if head.lstrip(BEFORE_TEXT).startswith(b"{"):
            return Document(path, _parsed(path, head + file.read()), None)
        if len(head) < 20 or head[:4] != b"glTF":
            raise InputError(
                f"{path} is no glTF: expected it to start with glTF (.glb) or {{ (.gltf)"
            )
        length, kind = struct.unpack_from("<I4s", head, 12)
        if kind != b"JSON" or 20 + length > size:
            raise InputError(f"{path} is damaged or truncated: no JSON of {length} bytes in it")
        text = file.read(length)
        start, binary = 20 + length, np.zeros(0, np.uint8)
        chunk = file.read(8)
    if len(chunk) == 8:
        length, kind = struct.unpack("<I4s", chunk)
        if kind == b"BIN\0" and start + 8 + length > size:
            raise InputError(f"{path} is truncated: {length} bytes announced, {size - start} left")
        if kind == b"BIN\0" and length:
            binary = np.memmap(path, np.uint8, "r", start + 8, (length,))
    return Document(path, _parsed(path, text), binary)


def _parsed(path: Path, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} has invalid JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path} has invalid JSON: expected an object")
    return document


def objects(values: Any) -> list[dict[str, Any]]:
    """Return the objects in a list; none if it is no list."""
    return [value for value in _list(values) if isinstance(value, dict)]


def object_of(entry: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the object that is a property of another; an empty one if there is none."""
    value = entry.get(key)
    return value if isinstance(value, dict) else {}


def _list(values: Any) -> list[Any]:
    return values if isinstance(values, list) else []


def _rotmat(w: float, x: float, y: float, z: float) -> np.ndarray:
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
