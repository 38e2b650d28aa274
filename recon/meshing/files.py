"""Mesh files: PLY, OBJ, STL and glTF, in the world frame of the scene."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from recon.errors import ConfigError
from recon.files import atomic_output
from recon.formats.y_up import flip_axes
from recon.meshing.triangles import TriangleMesh
from recon.precision import WORLD, Origin

FLOAT, INDEX, UINT16 = 5126, 5125, 5123
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963


def write_mesh(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write a mesh in the format of the extension, completely or not at all.

    Args:
        path: File to write.
        mesh: The mesh, relative to the origin.
        origin: World coordinates of that point.

    Raises:
        ConfigError: The extension is unknown.
        InputError: The file cannot be written.
    """
    write = mesh_writer(path)
    with atomic_output(path) as temporary:
        write(temporary, mesh, origin)


def mesh_writer(path: Path) -> Callable[[Path, TriangleMesh, Origin], None]:
    """Return the writer of an extension; ConfigError if there is none."""
    found = WRITERS.get(path.suffix.lower())
    if found is None:
        raise ConfigError(
            f"output has an unknown extension: {path}; expected one of: {', '.join(WRITERS)}",
            "output",
        )
    return found


def _world(mesh: TriangleMesh, origin: Origin) -> Float[np.ndarray, "n 3"]:
    return np.asarray(mesh.vertices.astype(np.float64) + origin)


def _bytes(colors: Float[np.ndarray, "n 3"]) -> np.ndarray:
    return np.asarray(np.rint(255 * np.clip(colors, 0, 1)), np.uint8)


def _write_ply(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write binary PLY with 8-bit colours; positions of float64 far from the origin."""
    name, kind = ("float", "<f4") if origin == WORLD else ("double", "<f8")
    layout: list[tuple[str, str, int]] = [("positions", kind, 3)]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(mesh.vertices)}"]
    header += [f"property {name} {axis}" for axis in "xyz"]
    if mesh.colors is not None:
        header += [f"property uchar {color}" for color in ("red", "green", "blue")]
        layout.append(("colors", "u1", 3))
    header += [f"element face {len(mesh.faces)}", "property list uchar int vertex_indices"]
    vertices = np.zeros(len(mesh.vertices), layout)
    vertices["positions"] = _world(mesh, origin)
    if mesh.colors is not None:
        vertices["colors"] = _bytes(mesh.colors)
    faces = np.zeros(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    with path.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        file.write(vertices.tobytes())
        file.write(faces.tobytes())


def _write_stl(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write binary STL, which has neither colours nor float64."""
    corners = _world(mesh, origin)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    rows = np.zeros(len(corners), [("values", "<f4", (4, 3)), ("attribute", "<u2")])
    rows["values"] = np.concatenate([normals[:, None], corners], 1)
    path.write_bytes(b"recon".ljust(80) + struct.pack("<I", len(rows)) + rows.tobytes())


def _write_obj(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write OBJ as text, with colours after the coordinates, as MeshLab and Blender read them."""
    positions = _world(mesh, origin)
    with path.open("w", encoding="ascii") as file:
        file.write(f"o {mesh.name}\n")
        if mesh.colors is None:
            np.savetxt(file, positions, "v %.10g %.10g %.10g")
        else:
            rows = np.concatenate([positions, np.clip(mesh.colors, 0, 1)], 1)
            np.savetxt(file, rows, "v %.10g %.10g %.10g %.4f %.4f %.4f")
        np.savetxt(file, mesh.faces + 1, "f %d %d %d")


def _write_glb(path: Path, mesh: TriangleMesh, origin: Origin) -> None:
    """Write glTF: y up, positions relative to the node, linear colours that need no light."""
    flip = flip_axes().astype(np.float64)
    positions = (mesh.vertices * flip).astype("<f4")
    blocks = [(mesh.faces.astype("<u4"), INDEX, "SCALAR"), (positions, FLOAT, "VEC3")]
    attributes = {"POSITION": 1}
    if mesh.colors is not None:
        linear = np.rint(65535 * to_linear(np.clip(mesh.colors, 0, 1)))
        # Rows of whole multiples of 4 bytes, as glTF demands.
        opaque = np.concatenate([linear, np.full((len(linear), 1), 65535)], 1)
        blocks.append((opaque.astype("<u2"), UINT16, "VEC4"))
        attributes["COLOR_0"] = 2
    accessors: list[dict[str, Any]] = []
    views: list[dict[str, Any]] = []
    binary = b""
    for index, (array, component, kind) in enumerate(blocks):
        target = ELEMENT_BUFFER if index == 0 else ARRAY_BUFFER
        data = array.tobytes()
        views.append(
            {"buffer": 0, "byteOffset": len(binary), "byteLength": len(data), "target": target}
        )
        count = array.size if kind == "SCALAR" else len(array)
        accessor: dict[str, Any] = {
            "bufferView": index, "componentType": component, "count": count, "type": kind,
        }  # fmt: skip
        if component == UINT16:
            accessor["normalized"] = True
        accessors.append(accessor)
        binary += data
    accessors[1] |= {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    node: dict[str, Any] = {"mesh": 0, "name": mesh.name}
    if origin != WORLD:
        node["translation"] = (flip * origin).tolist()
    document = {
        "asset": {"version": "2.0", "generator": "recon"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [node],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 0, "material": 0}]}],
        "materials": [
            {
                "doubleSided": True,
                "pbrMetallicRoughness": {"metallicFactor": 0.0},
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "accessors": accessors,
        "bufferViews": views,
        "buffers": [{"byteLength": len(binary)}],
    }
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    with path.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(binary)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(binary), b"BIN\0") + binary)


def to_linear(colors: np.ndarray) -> np.ndarray:
    """Convert display sRGB to linear values (IEC 61966-2-1)."""
    bent = ((colors + 0.055) / 1.055) ** 2.4
    return np.asarray(np.where(colors <= 0.04045, colors / 12.92, bent))


# Extension -> writer to a temporary path.
WRITERS: dict[str, Callable[[Path, TriangleMesh, Origin], None]] = {
    ".glb": _write_glb, ".obj": _write_obj, ".ply": _write_ply, ".stl": _write_stl,
}  # fmt: skip
