"""glTF with KHR_gaussian_splatting: float32 attributes of a point primitive, +y up.

Written as one .glb; a .gltf is read as well.
"""

import json
import math
import struct
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.gltf import Document, check_glb_size, object_of, read_document
from recon.formats.source import SceneSource
from recon.formats.y_up import (
    FLIPS,
    GLTF_FROM_SCENE,
    OPENGL_FLIP,
    SIDE_PX,
    Up,
    flip_axes,
    flip_quats,
    in_scene_axes,
    sh_from_linear,
    transformed,
)
from recon.precision import WORLD, Origin, float32_error, local_origin
from recon.start_camera import checked_camera
from render import Cameras, Gaussians
from render.sh import C0, degree_of

EXTENSION = "KHR_gaussian_splatting"
FLOAT, BYTE = 5126, 5121
# Mode of a primitive, and target of buffer views.
POINTS, ARRAY_BUFFER = 0, 34962
# Of the extras of `asset`: the axis of the scene that points up, which is +y in glTF's world.
UP_KEY = "recon:up"
# Values of the extension that are read.
LINEAR = "lin_rec709_display"
KERNELS, COLOR_SPACES = ("ellipse",), ("srgb_rec709_display", LINEAR)
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
    total = 28 + len(text) + size
    check_glb_size(path, total, ".ply or .usdc")
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<4sII", b"glTF", 2, total))
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


def _positions(block: Gaussians) -> np.ndarray:
    return np.asarray((block.means.numpy() * flip_axes()).astype("<f4"))


def _rotations(block: Gaussians) -> np.ndarray:
    return np.asarray((block.quats.numpy()[:, [1, 2, 3, 0]] * flip_quats()).astype("<f4"))


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
        part = {"buffer": 0, "byteOffset": offset, "byteLength": width * source.count}
        views.append(part | {"target": ARRAY_BUFFER})
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
        "mode": POINTS,
        "attributes": {name: index for index, name in enumerate(sections)},
        "extensions": {
            EXTENSION: {
                "kernel": "ellipse", "colorSpace": "srgb_rec709_display",
                "sortingMethod": "cameraDistance", "projection": "perspective",
            }
        },
    }  # fmt: skip
    rotation = _world_from_buffers(source.up_axis())
    nodes: list[dict[str, Any]] = [{"mesh": 0} | _placement(source.origin, rotation)]
    cameras: dict[str, Any] = {}
    if source.start is not None:
        nodes.append({"camera": 0, "name": "start"} | _pose(source.start, rotation))
        cameras = {"cameras": [_perspective(source.start)]}
    return cameras | {
        "asset": {"version": "2.0", "generator": "recon", "extras": {UP_KEY: source.up_axis()}},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": list(range(len(nodes)))}],
        "nodes": nodes,
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": offset}],
        "bufferViews": views,
        "accessors": accessors,
    }


def _world_from_buffers(up: Up) -> np.ndarray:
    """Return the rotation [4 4] of glTF's world from the buffers, where x and y are negated.

    It is a node's, since a rotation of the spherical harmonics would round them.
    """
    matrix = np.eye(4)
    matrix[:3, :3] = GLTF_FROM_SCENE[up] * flip_axes() + 0.0
    return matrix


def _placement(origin: Origin, rotation: np.ndarray) -> dict[str, Any]:
    """Return the part of a node that moves positions relative to an origin to the world."""
    matrix = np.eye(4)
    matrix[:3, 3] = np.array(origin) * flip_axes() + 0.0
    if (rotation == np.eye(4)).all():
        return {} if origin == WORLD else {"translation": matrix[:3, 3].tolist()}
    return {"matrix": (rotation @ matrix).T.ravel().tolist()}


def _pose(start: Cameras, rotation: np.ndarray) -> dict[str, Any]:
    """Return the part of a node with the pose of a camera, which looks along -z with +y up."""
    signs = np.append(flip_axes(), 1).astype(np.float64)
    matrix = rotation @ (signs[:, None] * start.c2w[0].numpy() * OPENGL_FLIP)
    return {"matrix": matrix.T.ravel().tolist()}


def _buffers_from_world(document: Document) -> np.ndarray:
    """Return the inverse of what recon rotated a scene by; the identity in files of others."""
    up = str(object_of(object_of(document.json, "asset"), "extras").get(UP_KEY))
    return _world_from_buffers(up).T if up in GLTF_FROM_SCENE else np.eye(4)


def _perspective(start: Cameras) -> dict[str, Any]:
    """Describe the lens of a camera: its principal point is the middle, as glTF has it."""
    fov = 2 * math.atan(start.height / 2 / float(start.Ks[0, 1, 1]))
    aspect = start.width / float(start.Ks[0, 0, 0]) / (start.height / float(start.Ks[0, 1, 1]))
    # The near plane must be positive; it has no meaning for Gaussians.
    perspective = {"yfov": fov, "aspectRatio": aspect, "znear": 0.01}
    return {"type": "perspective", "perspective": perspective}


def _start(document: Document) -> Cameras | None:
    """Return the first perspective camera that is complete, if there is one."""
    signs = np.append(flip_axes(), 1).astype(np.float64)
    undo = _buffers_from_world(document)
    for _, matrix, lens in document.perspective_cameras():
        try:
            fov, aspect = float(lens["yfov"]), float(lens.get("aspectRatio", 1))
            width, height = SIDE_PX * min(aspect, 1), SIDE_PX / max(aspect, 1)
            focal = height / 2 / math.tan(fov / 2)
            size = round(width), round(height)
        except (KeyError, TypeError, ValueError, ArithmeticError):
            continue
        pose = torch.from_numpy(signs[:, None] * (undo @ matrix) * OPENGL_FLIP)
        start = checked_camera(pose, (focal, focal, width / 2, height / 2), *size)
        if start is not None:
            return start
    return None


def _kind(name: str) -> str:
    if name.endswith("OPACITY"):
        return "SCALAR"
    return "VEC4" if name.endswith("ROTATION") or name == "COLOR_0" else "VEC3"


def open_glb(path: Path) -> SceneSource:
    """Open the Gaussians of all primitives with the extension, transformed by their nodes.

    Warnings tell what is converted: logarithmic scales and linear colours.

    Raises:
        InputError: There are none, or the file is damaged.
    """
    document = read_document(path)
    blocks, positions = [], []
    undo = _buffers_from_world(document)
    for world, primitive in document.primitives():
        extensions = object_of(primitive, "extensions")
        if EXTENSION not in extensions:
            continue
        extension = object_of(extensions, EXTENSION)
        if compression := object_of(extension, "extensions"):
            raise InputError(
                f"{path} has compressed Gaussians ({', '.join(compression)}), which "
                "recon does not read; convert it to .spz or .ply with the tool that made it"
            )
        _check_extension(path, extension)
        block = _primitive(path, document, primitive, extension.get("colorSpace"))
        matrix = in_scene_axes(path, undo @ world)
        blocks.append(transformed(path, block, matrix))
        positions.append(blocks[-1].means.double().numpy() + matrix[:3, 3])
    if not blocks:
        raise InputError(
            f"{path} is {_kind_of_glb(document)}, without Gaussians: expected a primitive with "
            f"{EXTENSION}"
        )
    degree = max(block.sh_degree for block in blocks)
    if any(block.sh_degree != degree for block in blocks):
        raise InputError(f"{path} has Gaussians of several SH degrees; expected one")
    origin = local_origin(np.concatenate(positions))
    if (
        origin != WORLD
        and max(float(block.means.abs().max()) for block in blocks) > max(map(abs, origin)) / 2
    ):
        warn(
            f"{path}: its positions are rounded by up to {float32_error(origin):.3g} units, since "
            "it stores coordinates far from zero as float32, without a node that moves them"
        )
    placed = [
        replace(block, means=torch.from_numpy((world - origin).astype(np.float32)))
        for block, world in zip(blocks, positions, strict=True)
    ]
    return SceneSource.of(Gaussians.cat(placed), origin, start=_start(document))


def _kind_of_glb(document: Document) -> str:
    """Return what a document without Gaussians is."""
    modes = [primitive.get("mode") for _, primitive in document.primitives()]
    if not modes:
        return "a glTF without meshes"
    return "a point cloud in glTF" if all(mode == POINTS for mode in modes) else "a mesh in glTF"


def _check_extension(path: Path, extension: dict[str, Any]) -> None:
    """Raise InputError for other kernels and colour spaces; warn of other projections."""
    for key, known in (("kernel", KERNELS), ("colorSpace", COLOR_SPACES)):
        value = extension.get(key, known[0])
        if value not in known:
            raise InputError(
                f"{path} has Gaussians with the {key} {value!r}; expected {' or '.join(known)}; "
                "convert it with the tool that made it"
            )
    for key, usual in (("projection", "perspective"), ("sortingMethod", "cameraDistance")):
        value = extension.get(key, usual)
        if value != usual:
            warn(f"{path} is made for the {key} {value!r}; recon renders with {usual!r}")


def _primitive(
    path: Path, document: Document, primitive: dict[str, Any], color_space: str | None
) -> Gaussians:
    attributes = object_of(primitive, "attributes")
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
    zero = (columns[1] == 0).all(1) & (columns[2] == 0).all(1)
    columns[2], columns[3] = _activated(path, columns[2], columns[3])
    good = np.logical_and.reduce([np.isfinite(column).all(1) for column in columns])
    good &= ~zero & (columns[2] <= encodings.MAX_SCALE).all(1)
    if zero.any():
        warn(
            f"{path}: dropped {zero.sum()} of {len(good)} Gaussians of zeros (rotation and "
            "scales); the file seems to be partly empty"
        )
    if not (good | zero).all():
        warn(
            f"{path}: dropped {(~good & ~zero).sum()} of {len(good)} Gaussians with non-finite "
            f"values or scales above {encodings.MAX_SCALE:.2g} units"
        )
    means, quats, scales, opacities, *rest = (column[good] for column in columns)
    sh = np.stack(rest, 1) * encodings.sh_signs(FLIPS, len(rest))
    if color_space == LINEAR:
        warn(f"{path}: its linear colours are converted to sRGB, higher SH to the first order")
        sh = sh_from_linear(sh)
    return Gaussians(
        means=torch.from_numpy(means * flip_axes()),
        quats=torch.from_numpy(encodings.decode_quats((quats * flip_quats())[:, [3, 0, 1, 2]])),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(opacities[:, 0]),
        sh=torch.from_numpy(sh),
    )


def _activated(
    path: Path, scales: np.ndarray, opacities: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return linear scales and opacities in [0, 1], which older writers stored as in a PLY."""
    if np.nanmin(scales, initial=0) < 0:
        warn(
            f"{path}: negative scales, which glTF does not allow; all are read as logarithms, as "
            "older writers stored them"
        )
        linear = encodings.decode_scales(scales)
        scales = np.where(scales > encodings.MAX_LOG_SCALE, np.float32(np.inf), linear)
    finite = opacities[np.isfinite(opacities)]
    if (
        finite.min(initial=0) < -encodings.OPACITY_ROUNDING
        or finite.max(initial=0) > 1 + encodings.OPACITY_ROUNDING
    ):
        warn(
            f"{path}: opacities outside 0 to 1, which glTF does not allow; all are read as logits, "
            "as older writers stored them"
        )
        return scales, encodings.decode_opacities(opacities)
    return scales, np.clip(opacities, 0, 1)


def glb_bytes(path: Path) -> int:
    """Return the size of a .glb, or of a .gltf with the files that it keeps values in."""
    return read_document(path).total_bytes()


def glb_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a .glb that recon wrote."""
    floats = {"positions": 3, "rotations": 4, "scales": 3, "opacities": 1}
    # f_dc, and COLOR_0 for viewers without support for splats.
    floats["colours"] = 4
    floats["SH"] = 3 * ((sh_degree + 1) ** 2 - 1)
    return {name: 4.0 * number for name, number in floats.items() if number}
