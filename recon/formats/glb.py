"""glTF binary with KHR_gaussian_splatting: float32 attributes of a point primitive, +y up."""

import json
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.errors import InputError
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.gltf import Document, read_document
from recon.formats.source import SceneSource
from render import Gaussians, Sim3
from render.sh import C0, degree_of

EXTENSION = "KHR_gaussian_splatting"
# glTF has +y up and +z ahead; scenes have +y down and +z ahead: a rotation by 180 degrees about z.
FLIPS = {"x": -1, "y": -1, "z": 1}
FLOAT, BYTE = 5126, 5121
Section = Callable[[Gaussians], np.ndarray]


def write_glb(path: Path, source: SceneSource) -> None:
    """Write one uncompressed primitive with all attributes.

    COLOR_0 is for viewers that do not support the extension.
    """
    sections = _sections(source.sh_degree)
    document = _document(source, sections)
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    size = document["buffers"][0]["byteLength"]
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, 28 + len(text) + size))
        file.write(struct.pack("<I4s", len(text), b"JSON") + text)
        file.write(struct.pack("<I4s", size, b"BIN\0"))
        for index, section in enumerate(sections.values()):
            for block in source.read(index, len(sections)):
                file.write(section(block).tobytes())


def _sections(degree: int) -> dict[str, Section]:
    """Return functions that give the little-endian values of each attribute."""
    sections: dict[str, Section] = {
        "POSITION": _positions,
        "COLOR_0": _colors,
        f"{EXTENSION}:ROTATION": _rotations,
        f"{EXTENSION}:SCALE": lambda block: block.scales.numpy().astype("<f4"),
        f"{EXTENSION}:OPACITY": lambda block: block.opacities.numpy().astype("<f4"),
    }
    for index, name in enumerate(_sh_names(degree)):
        sections[name] = partial(_coefficient, index)
    return sections


def _sh_names(degree: int) -> list[str]:
    return [
        f"{EXTENSION}:SH_DEGREE_{d}_COEF_{c}" for d in range(degree + 1) for c in range(2 * d + 1)
    ]


def _flip_axes() -> np.ndarray:
    return np.array([FLIPS[axis] for axis in "xyz"], np.float32)


def _flip_quats() -> np.ndarray:
    """Return the signs of the components of quaternions xyzw."""
    x, y, z = _flip_axes()
    return np.array([y * z, x * z, x * y, 1], np.float32)


def _positions(block: Gaussians) -> np.ndarray:
    return np.asarray((block.means.numpy() * _flip_axes()).astype("<f4"))


def _rotations(block: Gaussians) -> np.ndarray:
    return np.asarray((block.quats.numpy()[:, [1, 2, 3, 0]] * _flip_quats()).astype("<f4"))


def _colors(block: Gaussians) -> np.ndarray:
    rgb = 0.5 + C0 * block.sh[:, 0].numpy()
    color = np.concatenate([rgb, block.opacities.numpy()[:, None]], 1)
    return encodings.encode_steps(color, 8).astype(np.uint8)


def _coefficient(index: int, block: Gaussians) -> np.ndarray:
    sign = encodings.sh_signs(FLIPS, index + 1)[index]
    return np.asarray((block.sh[:, index].numpy() * sign).astype("<f4"))


def _document(source: SceneSource, sections: dict[str, Section]) -> dict[str, Any]:
    low, high = np.full(3, np.inf), np.full(3, -np.inf)
    for block in source.blocks():
        if len(block):
            low = np.minimum(low, _positions(block).min(0))
            high = np.maximum(high, _positions(block).max(0))
    views, accessors, offset = [], [], 0
    for index, name in enumerate(sections):
        kind = _kind(name)
        width = {"SCALAR": 4, "VEC3": 12, "VEC4": 16}[kind] if name != "COLOR_0" else 4
        views.append({"buffer": 0, "byteOffset": offset, "byteLength": width * source.count})
        offset += width * source.count
        accessor: dict[str, Any] = {
            "bufferView": index, "componentType": FLOAT, "count": source.count, "type": kind
        }  # fmt: skip
        if name == "COLOR_0":
            accessor |= {"componentType": BYTE, "normalized": True}
        if name == "POSITION" and source.count:
            accessor |= {"min": low.tolist(), "max": high.tolist()}
        accessors.append(accessor)
    primitive = {
        "mode": 0,
        "attributes": {name: index for index, name in enumerate(sections)},
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance", "projection": "perspective",
            }
        },
    }  # fmt: skip
    return {
        "asset": {"version": "2.0", "generator": "recon"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }


def _kind(name: str) -> str:
    if name.endswith("OPACITY"):
        return "SCALAR"
    return "VEC4" if name.endswith("ROTATION") or name == "COLOR_0" else "VEC3"


def open_glb(path: Path) -> SceneSource:
    """Open the Gaussians of all primitives with the extension, transformed by their nodes.

    Raises:
        InputError: There are none, or the file is damaged.
    """
    document = read_document(path)
    blocks = []
    for world, primitive in document.primitives():
        extension = primitive.get("extensions", {}).get(EXTENSION)
        if extension is None:
            continue
        if extension.get("extensions"):
            raise InputError(
                f"{path} has compressed Gaussians ({', '.join(extension['extensions'])}), which "
                "recon does not read; convert it to .spz or .ply with the tool that made it"
            )
        blocks.append(_transformed(path, _primitive(path, document, primitive), world))
    if not blocks:
        raise InputError(f"{path} has no Gaussians: expected a primitive with {EXTENSION}")
    degree = max(block.sh_degree for block in blocks)
    if any(block.sh_degree != degree for block in blocks):
        raise InputError(f"{path} has Gaussians of several SH degrees; expected one")
    return SceneSource.of(Gaussians.cat(blocks))


def _transformed(path: Path, block: Gaussians, world: np.ndarray) -> Gaussians:
    """Apply the transform of a node (in glTF axes)."""
    if (world == np.eye(4)).all():
        return block
    flip = np.append(_flip_axes(), 1)
    matrix = flip[:, None] * world * flip
    scale = np.cbrt(np.linalg.det(matrix[:3, :3]))
    rotation = (
        matrix[:3, :3] / scale if scale > 0 and np.isfinite(matrix).all() else np.zeros((3, 3))
    )
    if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3:
        raise InputError(f"{path}: a node mirrors or shears its Gaussians, which recon cannot read")
    values = (torch.tensor(x, dtype=torch.float32) for x in (scale, rotation, matrix[:3, 3]))
    return block.transformed(Sim3(*values))


def _primitive(path: Path, document: Document, primitive: dict[str, Any]) -> Gaussians:
    attributes = primitive.get("attributes", {})
    degree = 0
    while f"{EXTENSION}:SH_DEGREE_{degree + 1}_COEF_0" in attributes:
        degree += 1
    try:
        degree_of((degree + 1) ** 2)
    except ValueError as error:
        raise InputError(f"{path} has SH of degree {degree}; expected at most 4") from error
    names = ["POSITION", *(f"{EXTENSION}:{n}" for n in ("ROTATION", "SCALE", "OPACITY"))]
    columns = [
        document.accessor(attributes, name, w) for name, w in zip(names, (3, 4, 3, 1), strict=True)
    ]
    columns += [document.accessor(attributes, name, 3) for name in _sh_names(degree)]
    if len({len(column) for column in columns}) != 1:
        raise InputError(f"{path} is damaged: attributes of one primitive differ in length")
    good = np.logical_and.reduce([np.isfinite(column).all(1) for column in columns])
    means, quats, scales, opacities, *sh = (column[good] for column in columns)
    signs = encodings.sh_signs(FLIPS, len(sh))
    return Gaussians(
        means=torch.from_numpy(means * _flip_axes()),
        quats=torch.from_numpy(encodings.decode_quats((quats * _flip_quats())[:, [3, 0, 1, 2]])),
        scales=torch.from_numpy(np.abs(scales)),
        opacities=torch.from_numpy(np.clip(opacities[:, 0], 0, 1)),
        sh=torch.from_numpy(np.stack(sh, 1) * signs),
    )


def glb_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a .glb that recon wrote."""
    floats = {"positions": 3, "rotations": 4, "scales": 3, "opacities": 1}
    # f_dc, and COLOR_0 for viewers without support for splats.
    floats["colours"] = 4
    floats["SH"] = 3 * ((sh_degree + 1) ** 2 - 1)
    return {name: 4.0 * number for name, number in floats.items() if number}
