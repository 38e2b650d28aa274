"""PlayCanvas's compressed.ply: chunks of 256 Gaussians with bounds, 16 bytes a Gaussian and one
for each higher SH coefficient."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from recon.errors import InputError
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.morton import in_morton_order
from recon.formats.ply_header import RESTS, PlyHeader, degree_of_rest, mapped_table
from recon.formats.source import ROWS, SceneSource, regrouped
from render import Gaussians
from render.sh import C0

CHUNK = 256
# Logarithms of scales beyond this are not meant.
MAX_LOG = 20.0
# Positions beyond this leave float32 on the way.
MAX_BOUND = 1e30
# SH coefficients from -4 to 4.
SH_SPAN = 8.0
# Positions and sizes: bits of x, y, z; quaternions: 10 bits, the position of the largest on top.
XYZ_BITS = (11, 10, 11)
_BOUNDS = tuple(
    f"{end}_{name}"
    for names in (("x", "y", "z"), ("scale_x", "scale_y", "scale_z"), ("r", "g", "b"))
    for end in ("min", "max")
    for name in names
)
_PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")


def write_compressed_ply(path: Path, source: SceneSource) -> None:
    """Gaussians are ordered along a Morton curve, within parts of 262,144."""
    chunks = -(-source.count // CHUNK)
    rest = RESTS[source.sh_degree]
    header = ["ply", "format binary_little_endian 1.0", f"element chunk {chunks}"]
    header += [f"property float {name}" for name in _BOUNDS]
    header += [f"element vertex {source.count}", *(f"property uint {name}" for name in _PACKED)]
    if rest:
        header += [f"element sh {source.count}"]
        header += [f"property uchar f_rest_{i}" for i in range(rest)]
    sections = [_bounds, _packed, _sh_bytes] if rest else [_bounds, _packed]
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join([*header, "end_header", ""]).encode("ascii"))
        for turn, section in enumerate(sections):
            for part in source.read(turn, len(sections)):
                file.write(section(in_morton_order(part)).tobytes())


def _values(part: Gaussians) -> np.ndarray:
    """What has bounds in a chunk: positions, logarithms of scales, colours; [n, 9]."""
    logs = np.clip(encodings.encode_scales(part.scales.double().numpy()), -MAX_LOG, MAX_LOG)
    colors = 0.5 + C0 * part.sh[:, 0].double().numpy()
    return np.concatenate([part.means.double().numpy(), logs, colors], 1).astype(np.float32)


def _limits(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest of each chunk, [chunks, 9]."""
    starts = np.arange(0, len(values), CHUNK)
    return np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def _bounds(part: Gaussians) -> np.ndarray:
    low, high = _limits(_values(part))
    ends = [group for at in (0, 3, 6) for group in (low[:, at : at + 3], high[:, at : at + 3])]
    return np.concatenate(ends, 1).astype("<f4")


def _packed(part: Gaussians) -> np.ndarray:
    values = _values(part)
    low, high = (np.repeat(ends, CHUNK, 0)[: len(values)] for ends in _limits(values))
    inside = (values - low) / np.maximum(high - low, 1e-30)
    largest, three = encodings.encode_smallest_three(part.quats.numpy())
    turns = encodings.encode_steps(0.5 + three * encodings.SQRT_HALF, 10)
    colors = np.concatenate([inside[:, 6:], part.opacities.numpy()[:, None]], 1)
    words = [
        _xyz(inside[:, :3]),
        _words(np.concatenate([largest[:, None], turns], 1), (2, 10, 10, 10)),
        _xyz(inside[:, 3:6]),
        _words(encodings.encode_steps(colors, 8), (8, 8, 8, 8)),
    ]
    return np.stack(words, 1).astype("<u4")


def _xyz(inside: np.ndarray) -> np.ndarray:
    """One word of three numbers from 0 to 1."""
    steps = [encodings.encode_steps(v, b) for v, b in zip(inside.T, XYZ_BITS, strict=True)]
    return _words(np.stack(steps, 1), XYZ_BITS)


def _words(steps: np.ndarray, bits: tuple[int, ...]) -> np.ndarray:
    """Whole numbers of so many bits in one word, the first on top."""
    word = np.zeros(len(steps), np.uint32)
    for column, width in zip(steps.T, bits, strict=True):
        word = (word << np.uint32(width)) | column.astype(np.uint32)
    return word


def _sh_bytes(part: Gaussians) -> np.ndarray:
    _, rest = encodings.encode_sh(part.sh.numpy())
    return np.clip(np.trunc((rest / SH_SPAN + 0.5) * 256), 0, 255).astype(np.uint8)


def is_compressed(header: PlyHeader) -> bool:
    """Whether a PLY is a compressed.ply."""
    return header.elements[0].name == "chunk"


def open_compressed_ply(path: Path, file: BinaryIO, header: PlyHeader) -> SceneSource:
    """The Gaussians of a file whose header was read; InputError when it is damaged."""
    tables = _tables(path, file, header)
    count, vertices, rest = len(tables["vertex"]), tables["vertex"], tables.get("sh")
    bounds = _columns(tables["chunk"], _BOUNDS)
    if not (np.abs(bounds) < MAX_BOUND).all():
        raise InputError(f"{path} has bounds beyond {MAX_BOUND:g}; the file is damaged")
    names = () if rest is None else rest.dtype.names or ()
    terms = len(names)
    if set(names) != {f"f_rest_{i}" for i in range(terms)}:
        raise InputError(f"{path} has SH without some of f_rest_0 to f_rest_{terms - 1}")
    degree = degree_of_rest(path, terms)

    def parts() -> Iterator[Gaussians]:
        for start in range(0, count, ROWS):
            rows = slice(start, min(start + ROWS, count))
            chunk = np.arange(rows.start, rows.stop) // CHUNK
            yield _decoded(vertices[rows], bounds[chunk], None if rest is None else rest[rows])

    return SceneSource(count, degree, lambda: regrouped(parts()))


def _tables(path: Path, file: BinaryIO, header: PlyHeader) -> dict[str, np.ndarray]:
    if header.encoding != "binary_little_endian":
        raise InputError(f"{path}: a compressed.ply must be little-endian, found {header.encoding}")
    offset, size, tables = file.tell(), path.stat().st_size, {}
    for number, element in enumerate(header.elements):
        layout = header.layout(number)
        end = offset + element.count * layout.itemsize
        if end > size:
            raise InputError(
                f"{path} is cut short: {element.count} rows of {element.name} end at byte {end}, "
                f"the file has {size}"
            )
        tables[element.name] = mapped_table(path, offset, layout, element.count)
        offset = end
    wanted = {"chunk": _BOUNDS, "vertex": _PACKED}
    for name, properties in wanted.items():
        # Older files have no bounds of colours: those are from 0 to 1.
        needed = [p for p in properties if not p.endswith(("_r", "_g", "_b"))]
        missing = set(needed) - set(tables[name].dtype.names or ()) if name in tables else needed
        if missing:
            raise InputError(f"{path}: a compressed.ply needs {min(missing)} in {name}")
    count = len(tables["vertex"])
    if (
        len(tables["chunk"]) != -(-count // CHUNK)
        or len(tables.get("sh", tables["vertex"])) != count
    ):
        raise InputError(
            f"{path}: {count} Gaussians need {-(-count // CHUNK)} chunks and as many rows of SH; "
            f"found {len(tables['chunk'])} chunks"
        )
    return tables


def _columns(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    absent = {name: float(name.startswith("max")) for name in names}
    known = table.dtype.names or ()
    columns = [table[n] if n in known else np.full(len(table), absent[n]) for n in names]
    return np.stack(columns, 1).astype(np.float32)


def _decoded(rows: np.ndarray, bounds: np.ndarray, rest: np.ndarray | None) -> Gaussians:
    low = np.concatenate([bounds[:, at : at + 3] for at in (0, 6, 12)], 1)
    high = np.concatenate([bounds[:, at : at + 3] for at in (3, 9, 15)], 1)
    color = _split(rows["packed_color"], (8, 8, 8, 8))
    parts = [*_split(rows["packed_position"], XYZ_BITS), *_split(rows["packed_scale"], XYZ_BITS)]
    values = low + np.stack([*parts, *color[:3]], 1) * (high - low)
    turns = np.stack(_split(rows["packed_rotation"], (2, 10, 10, 10)), 1)
    largest = (3 * turns[:, 0] + 0.5).astype(np.int64)
    quats = encodings.decode_smallest_three(largest, (turns[:, 1:] - 0.5) / encodings.SQRT_HALF)
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
    """Numbers from 0 to 1 out of a word, the first from the top."""
    shift, found = 32, []
    for width in bits:
        shift -= width
        steps = (words >> np.uint32(shift)) & np.uint32((1 << width) - 1)
        found.append(encodings.decode_steps(steps, width).astype(np.float32))
    return found


def _sh_values(rest: np.ndarray) -> np.ndarray:
    """The middle of each step; the ends are what they say."""
    names = [f"f_rest_{i}" for i in range(len(rest.dtype.names or ()))]
    steps = np.stack([rest[name] for name in names], 1).astype(np.float32)
    inside = np.where(steps == 0, 0, np.where(steps == 255, 1, (steps + 0.5) / 256))
    return (inside - 0.5) * SH_SPAN
