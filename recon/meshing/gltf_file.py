"""glTF binary files of triangle meshes: y up, one node a mesh, colours that need no light."""

import json
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from recon.formats.y_up import GLTF_FROM_SCENE, Up
from recon.meshing.triangles import TriangleMesh
from recon.precision import WORLD, Origin
from render.srgb import to_linear

# Types of components and targets of buffer views, as the specification numbers them.
FLOAT, INDEX, UINT16 = 5126, 5125, 5123
ARRAY_BUFFER, ELEMENT_BUFFER = 34962, 34963
# Linear filters, over smaller versions as well, without repetition.
SAMPLER = {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}


class _Buffer:
    """The binary chunk, with its views and accessors."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.images: list[dict[str, Any]] = []

    def add(self, array: np.ndarray, component: int, kind: str, **extra: Any) -> int:
        """Append an array of rows of whole multiples of 4 bytes; return the index of it."""
        target = ELEMENT_BUFFER if component == INDEX else ARRAY_BUFFER
        data = array.tobytes()
        part = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(part | {"target": target})
        self.data += data
        count = array.size if kind == "SCALAR" else len(array)
        accessor = {"bufferView": len(self.views) - 1, "componentType": component, "count": count}
        self.accessors.append(accessor | {"type": kind} | extra)
        return len(self.accessors) - 1

    def add_image(self, png: bytes) -> None:
        """Append a PNG."""
        part = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(png)}
        self.views.append(part)
        self.images.append({"bufferView": len(self.views) - 1, "mimeType": "image/png"})
        self.data += png + b"\0" * (-len(png) % 4)


def write_glb(path: Path, meshes: list[TriangleMesh], origin: Origin, up: Up = "-y") -> None:
    """Write a node for each mesh: positions relative to it, linear colours.

    Args:
        path: File to write.
        meshes: In the axes of the scene, relative to the origin.
        origin: World coordinates of that point.
        up: Axis of the scene that points up.
    """
    rotation = GLTF_FROM_SCENE[up]
    buffer = _Buffer()
    # -0 is a position of its own for exact comparisons.
    move = {} if origin == WORLD else {"translation": (rotation @ origin + 0.0).tolist()}
    nodes = [{"mesh": i, "name": mesh.name} | move for i, mesh in enumerate(meshes)]
    document = {
        "asset": {"version": "2.0", "generator": "recon"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": [
            {"name": mesh.name, "primitives": [_primitive(buffer, mesh, rotation)]}
            for mesh in meshes
        ],
        "materials": [
            {
                "doubleSided": True,
                "pbrMetallicRoughness": {"metallicFactor": 0.0} | _texture(buffer, meshes),
                "extensions": {"KHR_materials_unlit": {}},
            }
        ],
        "accessors": buffer.accessors,
        "bufferViews": buffer.views,
        "buffers": [{"byteLength": len(buffer.data)}],
    }
    if buffer.images:
        document |= {"textures": [{"source": 0, "sampler": 0}], "images": buffer.images}
        document["samplers"] = [SAMPLER]
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    with path.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(buffer.data)))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", len(buffer.data), b"BIN\0") + buffer.data)


def _primitive(buffer: _Buffer, mesh: TriangleMesh, rotation: np.ndarray) -> dict[str, Any]:
    positions = (mesh.vertices @ rotation.T + 0.0).astype("<f4")
    bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()}
    indices = buffer.add(mesh.faces.astype("<u4"), INDEX, "SCALAR")
    attributes = {"POSITION": buffer.add(positions, FLOAT, "VEC3", **bounds)}
    if mesh.colors is not None:
        linear = np.rint(65535 * to_linear(np.clip(mesh.colors, 0, 1)))
        opaque = np.concatenate([linear, np.full((len(linear), 1), 65535)], 1).astype("<u2")
        attributes["COLOR_0"] = buffer.add(opaque, UINT16, "VEC4", normalized=True)
    if mesh.uv is not None:
        attributes["TEXCOORD_0"] = buffer.add(mesh.uv.astype("<f4"), FLOAT, "VEC2")
    return {"attributes": attributes, "indices": indices, "material": 0}


def _texture(buffer: _Buffer, meshes: list[TriangleMesh]) -> dict[str, Any]:
    """Add the texture of the first mesh, and return the part of the material that refers to it."""
    if meshes[0].texture is None:
        return {}
    buffer.add_image(texture_png(meshes[0].texture))
    return {"baseColorTexture": {"index": 0}}


def texture_png(texture: Float[np.ndarray, "h w 3"]) -> bytes:
    """Encode a texture as an 8-bit PNG."""
    pixels = np.rint(255 * np.clip(texture, 0, 1)).astype(np.uint8)
    return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))[1].tobytes()
