"""The PLY of 3D Gaussian Splatting (Kerbl et al. 2023, INRIA's reference code)."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError, listed, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.compressed_ply import comment_lines, is_compressed, open_compressed_ply
from recon.formats.ply_header import (
    NUM_REST_BY_DEGREE,
    PlyHeader,
    degree_of_rest,
    positions,
    read_header,
    read_table,
)
from recon.formats.source import BLOCK_SIZE, SceneSource, regroup
from recon.precision import WORLD, Origin, float32_error, origin_of_rows
from recon.start_camera import from_comments
from render import Gaussians
from render.sh import C0

_GROUPS = {
    "means": ("x", "y", "z"),
    "f_dc": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity": ("opacity",),
    "scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
# Written by many tools, and without a meaning for Gaussians.
_UNUSED = {"nx", "ny", "nz"}
# Colours of point clouds, which some tools write instead of f_dc.
_RGB = ("red", "green", "blue")
# Thickness of 2D Gaussians, relative to the smaller one of their two scales.
FLATNESS = 1e-3
# Comments that say whether the scene is for rendering with the 2D filter of Mip-Splatting, as Brush
# and Postshot write them; the last one counts.
MIP_COMMENTS = ("splatrendermode: mip", "antialiased 1")
DEFAULT_COMMENTS = ("splatrendermode: default", "antialiased 0")
# Number of rows from which on opacities that all lie in [0, 1] are suspicious.
MIN_SUSPICIOUS = 30
# Size of the smallest Gaussian over the extent of the scene from which scales are suspicious.
MIN_SIZE = 1 / 500


def write_ply(path: Path, source: SceneSource) -> None:
    """Write the layout of INRIA's code: binary little-endian float32, one element `vertex`.

    Where float32 is too coarse for positions in the world frame, they are written as float64.
    """
    rest = NUM_REST_BY_DEGREE[source.sh_degree]
    kind, names = "float", ["nx", "ny", "nz", *_GROUPS["f_dc"]]
    if source.origin != WORLD:
        kind = "double"
        warn(
            f"{path}: positions are written as float64, which some viewers do not read; float32 "
            f"would round them by up to {float32_error(source.origin):.3g} units at these "
            "coordinates"
        )
    names += [f"f_rest_{i}" for i in range(rest)]
    names += ["opacity", *_GROUPS["scales"], *_GROUPS["quats"]]
    header = ["ply", "format binary_little_endian 1.0"]
    header += comment_lines(source)
    header += [f"element vertex {source.count}"]
    header += [f"property {kind} {axis}" for axis in "xyz"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    layout = np.dtype([("means", "<f8" if kind == "double" else "<f4", 3)]
                      + [("others", "<f4", len(names))])  # fmt: skip
    with atomic_output(path) as temporary, temporary.open("wb") as file:
        file.write("\n".join(header).encode("ascii"))
        for block in source.read():
            rows = np.zeros(len(block), layout)
            rows["means"] = block.means.double().numpy() + source.origin
            rows["others"] = _others(block)
            file.write(rows.tobytes())


def _others(block: Gaussians) -> np.ndarray:
    """Return the values of all attributes but the positions, in file order."""
    f_dc, f_rest = encodings.encode_sh(block.sh.double().numpy())
    opacity = encodings.encode_opacities(block.opacities.double().numpy())
    scales = encodings.encode_scales(block.scales.double().numpy())
    quats = block.quats.double().numpy()
    normals = np.zeros((len(block), 3))
    return np.concatenate([normals, f_dc, f_rest, opacity[:, None], scales, quats], 1)


def open_ply(path: Path) -> SceneSource:
    """Open a 3DGS PLY, plain or compressed, with any order of elements and properties.

    Numbers may be of any type and encoding. 2D Gaussians (without scale_2) become flat ones, and
    the 3D filter of Mip-Splatting (filter_3D) is applied. Rows with NaN or infinite values are
    dropped, apart from infinite opacities, which are 0 or 1; so are rows with scales above
    MAX_SCALE and rows of zeros. Warnings tell all of this.

    Raises:
        InputError: The file is damaged or has no Gaussians.
    """
    with path.open("rb") as file:
        header = read_header(path, file)
        if is_compressed(header):
            opened = open_compressed_ply(path, file, header)
            return replace(
                opened, antialiased=is_antialiased(header), start=from_comments(header.comments)
            )
        names = [name for name, _ in header.properties]
        _check_properties(path, header, names)
        table = read_table(path, file, header)
    _tell_unusual(path, header, names)
    rest = sum(name.startswith("f_rest_") for name in names)
    degree = degree_of_rest(path, rest)
    origin = origin_of_rows(table, positions)
    if origin != WORLD and header.dtype["x"].itemsize < 8:
        warn(
            f"{path}: its positions are rounded by up to {float32_error(origin):.3g} units, since "
            "it stores coordinates far from zero as float32; make it around a local origin"
        )
    count = _count(path, table, rest)

    def blocks() -> Iterator[Gaussians]:
        return regroup(_decoded(rows, rest, origin) for rows in _chunks(table))

    antialiased = is_antialiased(header) or "filter_3D" in names
    start = from_comments(header.comments)
    return SceneSource(count, degree, blocks, origin, antialiased, start)


def is_antialiased(header: PlyHeader) -> bool:
    """Return whether the comments of a PLY ask for the 2D filter of Mip-Splatting."""
    found = False
    for comment in header.comments:
        text = " ".join(comment.lower().split())
        if text in MIP_COMMENTS:
            found = True
        elif text in DEFAULT_COMMENTS:
            found = False
    return found


def _tell_unusual(path: Path, header: PlyHeader, names: list[str]) -> None:
    """Warn of what is converted, and of what is not read."""
    if "scale_2" not in names:
        warn(
            f"{path} has 2D Gaussians (no scale_2); they are read as flat 3D ones, {FLATNESS:g} "
            "times as thick as wide"
        )
    if "filter_3D" in names:
        warn(f"{path}: its 3D filter (filter_3D of Mip-Splatting) is applied to scales and opacity")
    known = {name for group in _GROUPS.values() for name in group} | _UNUSED | {"filter_3D"}
    if not _has_f_dc(names):
        warn(f"{path}: its colours are red, green and blue instead of f_dc; they are converted")
        known |= set(_RGB)
    extra = [n for n in names if n not in known and not n.startswith("f_rest_")]
    others = [e.name for i, e in enumerate(header.elements) if i != header.vertex and e.count]
    unread = [f"properties {listed(extra)}"] * bool(extra)
    unread += [f"elements {listed(others)}"] * bool(others)
    if unread:
        warn(f"{path}: not read: {' and '.join(unread)}")


def _count(path: Path, table: np.ndarray, rest: int) -> int:
    """Count the usable rows; warn of the others, and of values that may not be encoded."""
    corners = np.full((2, 3), np.inf)
    count, low, high, smallest, unrotated = 0, np.inf, -np.inf, np.inf, 0
    dropped: Counter[str] = Counter()
    for rows in _chunks(table):
        columns = _groups(rows, rest)
        faults = _faults(columns)
        usable = _usable(faults)
        count += int(usable.sum())
        unrotated += int((usable & (columns["quats"] == 0).all(1)).sum())
        dropped.update({fault: int(bad.sum()) for fault, bad in faults.items()})
        opacity = rows["opacity"][~np.isnan(rows["opacity"])]
        low = min(low, float(opacity.min(initial=np.inf)))
        high = max(high, float(opacity.max(initial=-np.inf)))
        smallest = min(smallest, float(columns["scales"].min(initial=np.inf)))
        means = columns["means"][usable]
        found = np.stack([means.min(0, initial=np.inf), -means.max(0, initial=-np.inf)])
        corners = np.minimum(corners, found)
    for fault, number in dropped.items():
        if number:
            warn(f"{path}: dropped {number} of {len(table)} rows {fault}")
    if unrotated:
        warn(
            f"{path}: {unrotated} of {len(table)} rotations are quaternions of length zero; they "
            "are read as no rotation"
        )
    if len(table) >= MIN_SUSPICIOUS and low >= 0 and high <= 1:
        scales, symptom = "", "too transparent needs their logits"
        if smallest >= 0:
            scales = " and no scale is negative"
            symptom = "like fog needs their logits, and the logarithms of the scales"
        warn(
            f"{path}: all opacities are from {low:.3g} to {high:.3g}{scales}; they are read as "
            "logits, as the format has it, but may be opacities already: a scene that looks "
            f"{symptom}"
        )
    elif len(table) >= MIN_SUSPICIOUS and smallest >= 0 and count:
        extent = float((-corners[1] - corners[0]).max())
        if np.exp(smallest) > MIN_SIZE * extent:
            warn(
                f"{path}: every Gaussian is at least {np.exp(smallest):.3g} units wide, in a scene "
                f"of {extent:.3g}; scales are read as logarithms, as the format has it, but may be "
                "linear already: a scene that looks like fog needs their logarithms"
            )
    return count


def _chunks(table: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(table), BLOCK_SIZE):
        yield table[start : start + BLOCK_SIZE]


def _groups(rows: np.ndarray, rest: int, origin: Origin = WORLD) -> dict[str, np.ndarray]:
    known = rows.dtype.names or ()
    columns = {group: _columns(rows, names) for group, names in _GROUPS.items()}
    columns["f_rest"] = _columns(rows, tuple(f"f_rest_{i}" for i in range(rest)))
    if origin != WORLD:
        columns["means"] = (positions(rows) - origin).astype(np.float32)
    if "scale_2" not in known:
        columns["scales"][:, 2] = columns["scales"][:, :2].min(1) + np.log(FLATNESS)
    if not _has_f_dc(known):
        columns["f_dc"] = _f_dc_of_rgb(rows)
    if "filter_3D" in known:
        columns["filter"] = _columns(rows, ("filter_3D",))
    return columns


def _usable(faults: dict[str, np.ndarray]) -> np.ndarray:
    """Return which rows have no fault (see `_faults`)."""
    return np.asarray(~np.logical_or.reduce(list(faults.values())))


def _faults(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return which rows to drop for which fault; each row has one at most.

    Infinite logits and log scales of -infinity have a meaning.
    """
    finite = ~np.isnan(columns["opacity"]).any(1) & (columns["scales"] < np.inf).all(1)
    for name, column in columns.items():
        if name not in ("opacity", "scales"):
            finite &= np.isfinite(column).all(1)
    zero = (columns["quats"] == 0).all(1) & (columns["scales"][:, :2] == 0).all(1)
    huge = (columns["scales"] > encodings.MAX_LOG_SCALE).any(1)
    return {
        "with non-finite values": ~finite,
        f"with scales above {encodings.MAX_SCALE:.2g} units": finite & huge,
        "of zeros (rotation and scales); the file seems to be partly empty": finite & zero & ~huge,
    }


def _decoded(rows: np.ndarray, rest: int, origin: Origin) -> Gaussians:
    columns = _groups(rows, rest, origin)
    usable = _usable(_faults(columns))
    good = {name: column[usable] for name, column in columns.items()}
    scales = encodings.decode_scales(good["scales"])
    opacities = encodings.decode_opacities(good["opacity"][:, 0])
    if "filter" in good:
        scales, opacities = _filtered(scales, opacities, good["filter"])
    return Gaussians(
        means=torch.from_numpy(good["means"]),
        quats=torch.from_numpy(encodings.decode_quats(good["quats"])),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(opacities),
        sh=torch.from_numpy(encodings.decode_sh(good["f_dc"], good["f_rest"])),
    )


def _filtered(
    scales: np.ndarray, opacities: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Apply the 3D smoothing filter (Mip-Splatting, Yu et al. 2024, eq. 7)."""
    before = np.square(scales.astype(np.float64))
    after = before + np.square(width.astype(np.float64))
    ratio = np.sqrt(np.prod(before / np.maximum(after, 1e-300), 1))
    return np.sqrt(after).astype(np.float32), (opacities * ratio).astype(np.float32)


def _columns(table: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    """Return properties as float32 [n names]; those that are not there are 0."""
    out = np.zeros((len(table), len(names)), np.float32)
    known = table.dtype.names or ()
    # Numbers beyond float32 become infinite, and their rows are dropped.
    with np.errstate(over="ignore"):
        for i, name in enumerate(names):
            if name in known:
                out[:, i] = table[name]
    return out


def _f_dc_of_rgb(rows: np.ndarray) -> np.ndarray:
    """Convert red, green and blue: integers up to the largest of their type, or floats up to 1."""
    kind = rows.dtype["red"]
    top = np.iinfo(kind).max if kind.kind in "iu" else 1
    return np.asarray((_columns(rows, _RGB) / np.float32(top) - 0.5) / np.float32(C0))


def _has_f_dc(names: Iterable[str]) -> bool:
    """Return whether properties have SH of degree 0, or at least no colours instead of it."""
    return bool({*_GROUPS["f_dc"]} & {*names}) or not {*_RGB} <= {*names}


def _check_properties(path: Path, header: PlyHeader, names: list[str]) -> None:
    optional = {"scale_2"} if _has_f_dc(names) else {"scale_2", *_GROUPS["f_dc"]}
    needed = [n for group in _GROUPS.values() for n in group if n not in optional]
    missing = [n for n in needed if n not in names]
    if missing:
        raise InputError(
            f"{path} {_kind(header, names)}: its vertices have no "
            f"{', '.join(missing)}; export the scene as a Gaussian splat (PLY) from the program "
            "that made it"
        )


def _kind(header: PlyHeader, names: list[str]) -> str:
    """Say what a PLY is that is no scene of Gaussians."""
    if any(name.startswith("f_anchor_feat") for name in names):
        return "is the PLY of a Scaffold-GS, whose Gaussians only its networks can make"
    if {*_GROUPS["scales"], *_GROUPS["quats"]} & {*names}:
        return "has incomplete Gaussians"
    if any(element.name in ("face", "tristrips") and element.count for element in header.elements):
        return "is the PLY of a mesh, without Gaussians"
    kind = "the PLY of a point cloud" if {"x", "y", "z"} <= {*names} else "a PLY"
    return f"is {kind}, without Gaussians"


def ply_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a plain or compressed PLY."""
    with path.open("rb") as file:
        header = read_header(path, file)
    return sum_by_attribute(
        (
            (name if element.name != "chunk" else "bounds", element.count * np.dtype(kind).itemsize)
            for element in header.elements
            for name, kind in element.properties
        ),
        count,
    )
