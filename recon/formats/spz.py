"""Niantic's SPZ: fixed-point streams, one per attribute, in gzip (versions 1 to 3) or zstd (4).

recon writes version 3, which most viewers read. Axes are those of the scene, as in a PLY: the
library's own converter, splat-transform and others do not change them either, although its
description recommends +y up. A file that declares its axes is read into those of a PLY.
"""

import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from recon.errors import InputError, warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.far_gaussians import Survey, pull_in
from recon.formats.morton import in_morton_order
from recon.formats.source import BLOCK_SIZE, SceneSource
from recon.formats.spz_container import ANTIALIASED, MAGIC, SpzHeader, read_spz
from recon.precision import WORLD, Origin, origin_of_rows
from render import Gaussians, Sim3

VERSION = 3
LIBRARY_BITS = 12
COLOR_SPAN = 0.15
LOG_STEPS, LOG_OFFSET = 16.0, 10.0
POSITION_MAX = (1 << 23) - 1
ROTATION_MAX = (1 << 9) - 1
# Axes that a file may declare: the directions of x, y and z by the number in its extension (Left or
# Right, Down or Up, Front or Back). A PLY has RDF.
AXES = (
    "", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF",
    "LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU",
)  # fmt: skip
SCENE_AXES, OPPOSITE = "RDF", dict(zip("LRDUFB", "RLUDBF", strict=True))
# Scales that the format can store, and the largest higher SH.
MIN_SCALE, MAX_SCALE = math.exp(-LOG_OFFSET), math.exp(255 / LOG_STEPS - LOG_OFFSET)
MAX_COLOR, MAX_SH = 0.5 / COLOR_SPAN, 1.0


@dataclass(frozen=True)
class SpzConfig:
    """Precision and compression of an SPZ."""

    fraction_bits: int | None = None
    """Fractional bits of positions; None chooses 12, or as many as small scales need."""
    dropped_bits: int = 0
    """Number of fractional position bits to drop."""
    sh_bits: tuple[int, int] = (8, 8)
    """Bits of SH of degree 1, and of higher degrees (the library itself writes 5 and 4)."""
    level: int = 6
    """Compression level of gzip."""


def write_spz(path: Path, source: SceneSource, config: SpzConfig | None = None) -> None:
    """Write an SPZ; Gaussians are sorted along a Morton curve within each block."""
    config = config or SpzConfig()
    bits = config.fraction_bits
    if bits is None:
        source, bits = _fitted(path, source)
    bits = max(bits - config.dropped_bits, 0)
    if config.dropped_bits == 0:
        _tell_clipped(path, source)
    flags = ANTIALIASED if source.antialiased else 0
    header = SpzHeader(VERSION, source.count, source.sh_degree, bits, flags)
    sections: list[Callable[[Gaussians], np.ndarray]] = [
        lambda block: _positions(block, source.origin, bits),
        lambda block: encodings.encode_steps(block.opacities.numpy(), 8).astype(np.uint8),
        lambda block: _bytes((COLOR_SPAN * block.sh[:, 0].numpy() + 0.5) * 255),
        _log_scales,
        _rotations,
    ]
    if source.sh_degree:
        sections.append(lambda block: _sh(block, config.sh_bits))
    with (
        atomic_output(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", config.level, raw, mtime=0) as file,
    ):
        file.write(header.packed(MAGIC))
        for index, section in enumerate(sections):
            for block in source.read(index, len(sections)):
                file.write(section(in_morton_order(block)).tobytes())


def _fitted(path: Path, source: SceneSource) -> tuple[SceneSource, int]:
    """Choose the fractional bits of positions, and move in what is too far away for them.

    Steps are at most a sixteenth of the scale of small Gaussians and at most those of the library,
    as far as the range of positions allows.
    """
    survey = Survey.of(source)
    offset = float(np.abs(survey.center + source.origin).max())
    wanted = max(math.ceil(math.log2(16 / max(survey.size, 1e-9))), 0)
    reach = POSITION_MAX / (1 << wanted) - offset
    source, farthest = pull_in(path, source, survey, reach)
    allowed = math.floor(math.log2(POSITION_MAX / max(offset + farthest, 1e-9)))
    bits = min(max(min(max(wanted, LIBRARY_BITS), allowed), 0), 23)
    step = 0.5**bits
    if allowed < 0:
        raise InputError(
            f"cannot write {path}: positions up to {offset + farthest:,.0f} units are beyond the "
            f"range of SPZ, {POSITION_MAX:,}; write .ply, .glb or .sog, or reconstruct around a "
            "local origin (center=True)",
            "center",
        )
    if step > survey.size and source.origin == WORLD:
        warn(
            f"{path}: positions are rounded by up to {step / 2:.3g} units, and a tenth of the "
            f"Gaussians are smaller than {survey.size:.3g}: too coarse for SPZ; write .ply"
        )
    return source, bits


def _tell_clipped(path: Path, source: SceneSource) -> None:
    """Warn of the number of Gaussians with values that the format cannot store."""
    counts = {f"scales outside {MIN_SCALE:.2g} to {MAX_SCALE:.2g} units": 0}
    colors, rest = f"colours beyond {MAX_COLOR:.2g}", f"higher SH beyond {MAX_SH:g}"
    counts |= {colors: 0, rest: 0}
    for block in source.blocks():
        # A flat Gaussian may well be a little thicker.
        largest = block.scales.amax(1)
        clipped = (largest < 10 * MIN_SCALE) & (block.scales.amin(1) < MIN_SCALE)
        counts[next(iter(counts))] += int((clipped | (largest > MAX_SCALE)).sum())
        counts[colors] += int((block.sh[:, 0].abs() > MAX_COLOR).any(1).sum())
        counts[rest] += int((block.sh[:, 1:].abs() > 1.01 * MAX_SH).flatten(1).any(1).sum())
    found = [f"{name} ({count})" for name, count in counts.items() if count]
    if found:
        warn(
            f"{path}: SPZ clips, of {source.count} Gaussians: {', '.join(found)}; .ply and "
            ".sog keep them"
        )


def spz_error(origin: Origin) -> float:
    """Return the rounding of positions around a point (world units)."""
    allowed = math.floor(math.log2(POSITION_MAX / max(map(abs, origin))))
    return 0.5 ** (min(max(allowed, 0), 23) + 1)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _positions(block: Gaussians, origin: Origin, bits: int) -> np.ndarray:
    fixed = np.round((block.means.double().numpy() + origin) * (1 << bits))
    fixed = np.clip(fixed, -POSITION_MAX - 1, POSITION_MAX).astype("<i4")
    return fixed.reshape(-1, 1).view(np.uint8)[:, :3].copy()


def _log_scales(block: Gaussians) -> np.ndarray:
    logs = encodings.encode_scales(block.scales.double().numpy())
    return _bytes((logs + LOG_OFFSET) * LOG_STEPS)


def _rotations(block: Gaussians) -> np.ndarray:
    """Pack the index of the largest component (2 bits), and sign and 9 bits of each other one."""
    quats = block.quats.numpy()[:, [1, 2, 3, 0]]
    largest, three = encodings.encode_smallest_three(quats)
    steps = np.floor(ROTATION_MAX * np.abs(three) / encodings.SQRT_HALF + 0.5)
    steps = np.minimum(steps, ROTATION_MAX).astype(np.uint32)
    word = largest.astype(np.uint32)
    for column in range(3):
        sign = (three[:, column] < 0).astype(np.uint32)
        word = (word << np.uint32(10)) | (sign << np.uint32(9)) | steps[:, column]
    return word.astype("<u4")


def _sh(block: Gaussians, bits: tuple[int, int]) -> np.ndarray:
    """Quantise SH, colour innermost; dropped bits stay 0, which improves the compression."""
    values = np.floor(block.sh.numpy()[:, 1:] * 128 + 128.5)
    step = np.where(np.arange(values.shape[1]) < 3, 1 << (8 - bits[0]), 1 << (8 - bits[1]))
    step = step[:, None]
    return np.asarray(
        np.clip(np.floor((values + step // 2) / step) * step, 0, 255).astype(np.uint8)
    )


def open_spz(path: Path) -> SceneSource:
    """Open an SPZ of version 1 to 4; raise InputError if it is damaged.

    A file that declares its axes is converted to those of a PLY (x right, y down, z ahead).
    """
    header, streams = read_spz(path)
    origin = origin_of_rows(streams["positions"], partial(_means, header))
    if origin != WORLD:
        warn(
            f"{path}: its positions are rounded by up to {0.5 ** (header.fraction_bits + 1):.3g} "
            "units, since SPZ stores coordinates far from zero with few digits"
        )
    axes = AXES[header.axes]
    if axes not in ("", SCENE_AXES):
        warn(f"{path} declares the axes {axes}; they are changed to those of a PLY, {SCENE_AXES}")

    def blocks() -> Iterator[Gaussians]:
        for start in range(0, header.count, BLOCK_SIZE):
            rows = {name: stream[start : start + BLOCK_SIZE] for name, stream in streams.items()}
            yield _decoded(header, rows, origin)

    if axes not in ("", SCENE_AXES):
        source = SceneSource(
            header.count, header.sh_degree, blocks, WORLD, header.antialiased
        ).mapped(partial(_in_scene_axes, axes))
        return replace(source, origin=_rotated_origin(axes, origin))
    return SceneSource(header.count, header.sh_degree, blocks, origin, header.antialiased)


def _axes_matrix(axes: str) -> tuple[np.ndarray, dict[str, int]]:
    """Return the rotation by 90 degrees that puts z last, and the signs of x, y and z then."""
    rotation = np.eye(3)
    if axes[1] in "FB":
        # y is ahead or back, z is up or down: the new y is -z, the new z is y.
        rotation = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
        axes = axes[0] + OPPOSITE[axes[2]] + axes[1]
    signs = {name: 1 if a == b else -1 for name, a, b in zip("xyz", axes, SCENE_AXES, strict=True)}
    return rotation, signs


def _rotated_origin(axes: str, origin: Origin) -> Origin:
    rotation, signs = _axes_matrix(axes)
    # No negative zeros.
    x, y, z = (
        float(v) + 0.0 for v in np.array(list(signs.values())) * (rotation @ np.array(origin))
    )
    return x, y, z


def _in_scene_axes(axes: str, block: Gaussians) -> Gaussians:
    """Rotate Gaussians, and negate axes, so that x is right, y down and z ahead."""
    rotation, signs = _axes_matrix(axes)
    if (rotation != np.eye(3)).any():
        identity = Sim3.identity()
        block = block.transformed(replace(identity, rotmat=torch.from_numpy(rotation).float()))
    x, y, z = signs.values()
    return replace(
        block,
        means=block.means * torch.tensor([x, y, z]),
        # Negated axes change a rotation matrix R to F R F, also where F is a reflection.
        quats=block.quats * torch.tensor([1, y * z, x * z, x * y]),
        sh=block.sh * torch.from_numpy(encodings.sh_signs(signs, block.sh.shape[1])),
    )


def _means(header: SpzHeader, rows: np.ndarray) -> np.ndarray:
    """Decode positions, float64 [n 3]. Version 1 has 16-bit floating-point numbers."""
    if header.version == 1:
        return np.ascontiguousarray(rows).view("<f2").reshape(-1, 3).astype(np.float64)
    digits = rows.reshape(-1, 3)
    # The 3 bytes become the upper ones of 4, so that the shift back keeps the sign.
    wide = np.zeros((len(digits), 4), np.uint8)
    wide[:, 1:] = digits
    fixed = (wide.view("<i4")[:, 0] >> 8).reshape(-1, 3)
    return np.asarray(fixed / (1 << header.fraction_bits))


def _decoded(header: SpzHeader, rows: dict[str, np.ndarray], origin: Origin) -> Gaussians:
    means = _means(header, rows["positions"]) - origin
    sh = ((rows["sh"].astype(np.float32) - 128) / 128).reshape(len(means), -1, 3)
    f_dc = (rows["colors"].astype(np.float32) / 255 - 0.5) / COLOR_SPAN
    scales = encodings.decode_scales(rows["scales"].astype(np.float32) / LOG_STEPS - LOG_OFFSET)
    quats = _decoded_rotations(header.version, rows["rotations"])
    return Gaussians(
        means=torch.from_numpy(means.astype(np.float32)),
        quats=torch.from_numpy(encodings.decode_quats(quats[:, [3, 0, 1, 2]])),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(rows["alphas"][:, 0].astype(np.float32) / 255),
        sh=torch.from_numpy(np.concatenate([f_dc[:, None], sh], 1)),
    )


def _decoded_rotations(version: int, raw: np.ndarray) -> np.ndarray:
    """Decode quaternions xyzw. Until version 2, x, y and z have a byte each, and w is positive."""
    if version <= 2:
        xyz = raw.astype(np.float32) / 127.5 - 1
        w = np.sqrt(np.maximum(1 - np.square(xyz).sum(1, keepdims=True), 0))
        return np.concatenate([xyz, w], 1)
    word = raw.copy().view("<u4")[:, 0]
    fields = np.stack([word >> np.uint32(shift) & np.uint32(1023) for shift in (20, 10, 0)], 1)
    size = (fields & ROTATION_MAX).astype(np.float32) * np.float32(
        encodings.SQRT_HALF / ROTATION_MAX
    )
    three = np.where(fields >> 9, -size, size)
    return encodings.decode_smallest_three((word >> np.uint32(30)).astype(np.int64), three)


def spz_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of an SPZ, each compressed alone."""
    _, streams = read_spz(path)
    return sum_by_attribute(
        (
            (name, len(zlib.compress(stream.tobytes())))
            for name, stream in streams.items()
            if stream.size
        ),
        count,
    )
