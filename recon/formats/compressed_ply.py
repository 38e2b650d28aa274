"""PlayCanvas's compressed.ply.

Positions, rotations, scales and colours take 16 bytes per Gaussian, relative to the bounds of
chunks of 256 Gaussians, and each value of higher SH takes one byte.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.far_gaussians import Survey, pull_in
from recon.formats.morton import in_morton_order
from recon.formats.ply_header import (
    NUM_REST_BY_DEGREE,
    PlyHeader,
    degree_of_rest,
    mapped_table,
    tell_ignored,
)
from recon.formats.source import BLOCK_SIZE, SceneSource, regroup
from recon.precision import WORLD, Origin, float32_error, local_origin
from recon.start_camera import to_comment
from render import Gaussians
from render.sh import C0

CHUNK_SIZE = 256
# Log scales are clipped to this, so that an outlier does not cost its chunk all precision.
MAX_LOG = 20.0
# Larger bounds would overflow float32 in the computation.
MAX_BOUND = 1e30
# SH coefficients are clipped to -4 ... 4.
SH_SPAN = 8.0
# Bits of x, y and z of positions and scales.
XYZ_BITS = (11, 10, 11)
_BOUNDS = tuple(
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
)
# Comment of scenes for rendering with the 2D filter of Mip-Splatting, as Brush writes it.
MIP_COMMENT = "SplatRenderMode: mip"
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def write_compressed_ply(path: Path, source: SceneSource) -> None:
    """Write a compressed.ply; Gaussians are sorted along a Morton curve within each block."""
    survey = Survey.of(source)
    if survey.distances[-1] / (1 << min(XYZ_BITS)) > survey.size:
        source, _ = pull_in(path, source, survey)
    chunks = -(-source.count // CHUNK_SIZE)
    rest = NUM_REST_BY_DEGREE[source.sh_degree]
    header = ["ply", "format binary_little_endian 1.0"]
    header += comment_lines(source)
    header += [f"element chunk {chunks}"]
    header += [f"property float {name}" for name in _BOUNDS]
    header += [f"element vertex {source.count}", *(f"property uint {name}" for name in _PACKED)]
    if rest:
        header += [f"element sh {source.count}"]
        header += [f"property uchar f_rest_{i}" for i in range(rest)]
    sections: list[Callable[[Gaussians], np.ndarray]] = [
        partial(_bounds, source.origin),
        partial(_packed, source.origin),
    ]
    if rest:
        sections.append(_sh_bytes)
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        for index, section in enumerate(sections):
            for block in source.read(index, len(sections)):
                file.write(section(in_morton_order(block)).tobytes())


def comment_lines(source: SceneSource) -> list[str]:
    """Return what a PLY says about a scene in the comments of its header."""
    lines = [f"comment {MIP_COMMENT}"] if source.antialiased else []
    return lines if source.start is None else [*lines, f"comment {to_comment(source.start)}"]


def _values(origin: Origin, block: Gaussians) -> np.ndarray:
    """Return the values that have bounds: positions, log scales and colours [n 9]."""
    logs = np.clip(encodings.encode_scales(block.scales.double().numpy()), -MAX_LOG, MAX_LOG)
    colors = 0.5 + C0 * block.sh[:, 0].double().numpy()
    means = block.means.double().numpy() + origin
    return np.concatenate([means, logs, colors], 1).astype(np.float32)


def _limits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the minimum and maximum of each chunk [chunks 9]."""
    starts = np.arange(0, len(values), CHUNK_SIZE)
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def _bounds(origin: Origin, block: Gaussians) -> np.ndarray:
    low, high = _limits(_values(origin, block))
    ends = [group for at in (0, 3, 6) for group in (low[:, at : at + 3], high[:, at : at + 3])]
    return np.concatenate(ends, 1).astype("<f4")


def _packed(origin: Origin, block: Gaussians) -> np.ndarray:
    values = _values(origin, block)
    low, high = (np.repeat(ends, CHUNK_SIZE, 0)[: len(values)] for ends in _limits(values))
    fractions = (values - low) / np.maximum(high - low, 1e-30)
    largest, three = encodings.encode_smallest_three(block.quats.numpy())
    rotations = encodings.encode_steps(0.5 + three * encodings.SQRT_HALF, 10)
    colors = np.concatenate([fractions[:, 6:], block.opacities.numpy()[:, None]], 1)
    words = [
        _xyz(fractions[:, :3]),
        _words(np.concatenate([largest[:, None], rotations], 1), (2, 10, 10, 10)),
        _xyz(fractions[:, 3:6]),
        _words(encodings.encode_steps(colors, 8), (8, 8, 8, 8)),
    ]
    return np.stack(words, 1).astype("<u4")


def _xyz(fractions: np.ndarray) -> np.ndarray:
    """Pack three fractions from 0 to 1 into one word."""
    steps = [encodings.encode_steps(v, b) for v, b in zip(fractions.T, XYZ_BITS, strict=True)]
    return _words(np.stack(steps, 1), XYZ_BITS)


def _words(steps: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Pack integers of the given widths into one word, the first into the highest bits."""
    word = np.zeros(len(steps), np.uint32)
    for column, width in zip(steps.T, bits, strict=True):
        word = (word << np.uint32(width)) | column.astype(np.uint32)
    return word


def _sh_bytes(block: Gaussians) -> np.ndarray:
    _, rest = encodings.encode_sh(block.sh.numpy())
    return np.clip(np.trunc((rest / SH_SPAN + 0.5) * 256), 0, 255).astype(np.uint8)


def is_compressed(header: PlyHeader) -> bool:
    """Return whether a PLY is a compressed.ply."""
    return any(element.name == "chunk" for element in header.elements)


def open_compressed_ply(path: Path, file: BinaryIO, header: PlyHeader) -> SceneSource:
    """Open a file whose header was read; raise InputError if it is damaged."""
    tables = _tables(path, file, header)
    count, vertices, rest = len(tables["vertex"]), tables["vertex"], tables.get("sh")
    bounds = _columns(tables["chunk"], _BOUNDS)
    if not (np.abs(bounds) < MAX_BOUND).all():
        raise InputError(f"{path} has bounds beyond {MAX_BOUND:g}; the file is damaged")
    huge = int((bounds[:, 9:12] > encodings.MAX_LOG_SCALE).any(1).sum())
    if huge:
        warn(
            f"{path}: {huge} of {len(bounds)} chunks have scales above {encodings.MAX_SCALE:.2g} "
            "units; they are clipped"
        )
    names = () if rest is None else rest.dtype.names or ()
    terms = len(names)
    if set(names) != {f"f_rest_{i}" for i in range(terms)}:
        raise InputError(f"{path} lacks some of the SH properties f_rest_0 to f_rest_{terms - 1}")
    degree = degree_of_rest(path, terms)
    corners = bounds[:, :6].astype(np.float64).reshape(-1, 3)
    origin = local_origin(corners)
    if origin != WORLD:
        warn(
            f"{path}: its positions are rounded by up to {float32_error(origin):.3g} units, since "
            "it stores coordinates far from zero as float32"
        )

    def blocks() -> Iterator[Gaussians]:
        for start in range(0, count, BLOCK_SIZE):
            rows = slice(start, min(start + BLOCK_SIZE, count))
            chunk = np.arange(rows.start, rows.stop) // CHUNK_SIZE
            sh = None if rest is None else rest[rows]
            yield _decoded(vertices[rows], bounds[chunk], sh, origin)

    return SceneSource(count, degree, lambda: regroup(blocks()), origin)


def _tables(path: Path, file: BinaryIO, header: PlyHeader) -> dict[str, np.ndarray]:
    if header.encoding != "binary_little_endian":
        raise InputError(f"{path}: a compressed.ply must be little-endian, found {header.encoding}")
    offset, size, tables = file.tell(), path.stat().st_size, {}
    for index, element in enumerate(header.elements):
        if element.counts:
            raise InputError(f"{path}: a compressed.ply has no lists, found some in {element.name}")
        layout = header.layout(index)
        end = offset + element.count * layout.itemsize
        if end > size:
            raise InputError(
                f"{path} is truncated: {element.count} rows of {element.name} end at byte {end}, "
                f"the file has {size}"
            )
        tables[element.name] = mapped_table(path, offset, layout, element.count)
        offset = end
    tell_ignored(path, size - offset, max(header.dtype.itemsize, 1))
    wanted = {"chunk": _BOUNDS, "vertex": _PACKED}
    for name, properties in wanted.items():
        # Older files have no bounds of colours, which are then 0 and 1.
        needed = [p for p in properties if not p.endswith(("_r", "_g", "_b"))]
        missing = set(needed) - set(tables[name].dtype.names or ()) if name in tables else needed
        if missing:
            raise InputError(f"{path}: a compressed.ply needs {min(missing)} in {name}")
    count = len(tables["vertex"])
    if (
        len(tables["chunk"]) != -(-count // CHUNK_SIZE)
        or len(tables.get("sh", tables["vertex"])) != count
    ):
        raise InputError(
            f"{path}: {count} Gaussians need {-(-count // CHUNK_SIZE)} chunks and {count} rows of "
            f"SH; found {len(tables['chunk'])} chunks"
        )
    return tables


def _columns(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    absent = {name: float(name.startswith("max")) for name in names}
    known = table.dtype.names or ()
    columns = [table[n] if n in known else np.full(len(table), absent[n]) for n in names]
    return np.stack(columns, 1).astype(np.float32)


def _decoded(
    rows: np.ndarray, bounds: np.ndarray, rest: np.ndarray | None, origin: Origin
) -> Gaussians:
    if origin != WORLD:
        bounds = bounds.astype(np.float64)
        bounds[:, :6] -= np.tile(origin, 2)
        bounds = bounds.astype(np.float32)
    low = np.concatenate([bounds[:, at : at + 3] for at in (0, 6, 12)], 1)
    high = np.concatenate([bounds[:, at : at + 3] for at in (3, 9, 15)], 1)
    color = _split(rows["packed_color"], (8, 8, 8, 8))
    geometry = [*_split(rows["packed_position"], XYZ_BITS), *_split(rows["packed_scale"], XYZ_BITS)]
    values = low + np.stack([*geometry, *color[:3]], 1) * (high - low)
    rotations = np.stack(_split(rows["packed_rotation"], (2, 10, 10, 10)), 1)
    largest = (3 * rotations[:, 0] + 0.5).astype(np.int64)
    quats = encodings.decode_smallest_three(largest, (rotations[:, 1:] - 0.5) / encodings.SQRT_HALF)
    f_dc = (values[:, 6:] - 0.5) / C0
    sh = np.zeros((len(rows), 0), np.float32) if rest is None else _sh_values(rest)
    return Gaussians(
        means=torch.from_numpy(values[:, :3].copy()),
        quats=torch.from_numpy(quats),
        scales=torch.from_numpy(encodings.decode_scales(values[:, 3:6])),
        opacities=torch.from_numpy(color[3].copy()),
        sh=torch.from_numpy(encodings.decode_sh(f_dc.astype(np.float32), sh)),
    )


def _split(words: np.ndarray, bits: tuple[int, ...]) -> list[np.ndarray]:
    """Unpack fractions from 0 to 1 from a word, the first from the highest bits."""
    shift, fractions = 32, []
    for width in bits:
        shift -= width
        steps = (words >> np.uint32(shift)) & np.uint32((1 << width) - 1)
        fractions.append(encodings.decode_steps(steps, width).astype(np.float32))
    return fractions


def _sh_values(rest: np.ndarray) -> np.ndarray:
    """Decode SH to the centres of the steps; the first and the last step stand for the ends."""
    names = [f"f_rest_{i}" for i in range(len(rest.dtype.names or ()))]
    steps = np.stack([rest[name] for name in names], 1).astype(np.float32)
    fractions = np.where(steps == 0, 0, np.where(steps == 255, 1, (steps + 0.5) / 256))
    return (fractions - 0.5) * SH_SPAN
