"""Niantic's SPZ: fixed-point streams, one per attribute, in gzip (versions 1 to 3) or zstd (4).

recon writes version 3, which most viewers read. Axes are those of the scene, as in a PLY: the
library's own converter, splat-transform and others do not change them either, although its
description recommends +y up.
"""

import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recon.errors import warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.morton import in_morton_order
from recon.formats.source import BLOCK_SIZE, SceneSource
from recon.formats.spz_container import MAGIC, SpzHeader, read_spz
from render import Gaussians

VERSION = 3
LIBRARY_BITS = 12
COLOR_SPAN = 0.15
LOG_STEPS, LOG_OFFSET = 16.0, 10.0
POSITION_MAX = (1 << 23) - 1
ROTATION_MAX = (1 << 9) - 1


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
        bits = _fraction_bits(source)
    bits = max(bits - config.dropped_bits, 0)
    header = SpzHeader(VERSION, source.count, source.sh_degree, bits)
    sections: list[Callable[[Gaussians], np.ndarray]] = [
        lambda block: _positions(block, bits),
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


def _fraction_bits(source: SceneSource) -> int:
    """Choose the fractional bits of positions.

    Steps are at most a sixteenth of the scale of small Gaussians and at most those of the library,
    as far as the range of positions allows.
    """
    max_position, sizes = 1e-9, []
    for block in source.blocks():
        max_position = max(max_position, float(block.means.abs().max()) if len(block) else 0.0)
        median_axis = block.scales.median(1).values
        sizes.append(float(median_axis.quantile(0.1)))
    wanted = math.ceil(math.log2(16 / max(min(sizes, default=1.0), 1e-9)))
    allowed = math.floor(math.log2(POSITION_MAX / max_position))
    if allowed < 0:
        warn(f"positions up to {max_position:g} are beyond the range of SPZ; they are clipped")
    return min(max(min(max(wanted, LIBRARY_BITS), allowed), 0), 23)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _positions(block: Gaussians, bits: int) -> np.ndarray:
    fixed = np.round(block.means.double().numpy() * (1 << bits))
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
    """Open an SPZ of version 2, 3 or 4; raise InputError if it is damaged."""
    header, streams = read_spz(path)

    def blocks() -> Iterator[Gaussians]:
        for start in range(0, header.count, BLOCK_SIZE):
            rows = {name: stream[start : start + BLOCK_SIZE] for name, stream in streams.items()}
            yield _decoded(header, rows)

    return SceneSource(header.count, header.sh_degree, blocks)


def _decoded(header: SpzHeader, rows: dict[str, np.ndarray]) -> Gaussians:
    digits = rows["positions"].reshape(-1, 3)
    # The 3 bytes become the upper ones of 4, so that the shift back keeps the sign.
    wide = np.zeros((len(digits), 4), np.uint8)
    wide[:, 1:] = digits
    fixed = (wide.view("<i4")[:, 0] >> 8).reshape(-1, 3)
    means = fixed / (1 << header.fraction_bits)
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
    """Decode quaternions xyzw. Version 2 has x, y and z in a byte each, and w is positive."""
    if version == 2:
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
