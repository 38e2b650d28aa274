"""Niantic's SPZ: fixed-point streams of one attribute after the other, gzip (v1 to v3) or zstd
(v4). Written as v3, which the widest range of viewers reads.

Axes are those of the scene, as in a PLY: the library's own converter, splat-transform and others
leave them alone, too, though its description prefers +y up.
"""

import gzip
import logging
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.morton import in_morton_order
from recon.formats.source import ROWS, SceneSource
from recon.formats.spz_container import MAGIC, SpzHeader, read_spz
from render import Gaussians

log = logging.getLogger(__name__)
VERSION = 3
LIBRARY_BITS = 12
COLOR_SPAN = 0.15
LOG_STEPS, LOG_OFFSET = 16.0, 10.0
POSITION_MAX = (1 << 23) - 1
TURN_MAX = (1 << 9) - 1


@dataclass(frozen=True)
class SpzConfig:
    """What is rounded how far."""

    fraction_bits: int | None = None
    """Binary digits of positions behind the point; None: 12, or as many as small scales need."""
    dropped_bits: int = 0
    """So many fewer."""
    sh_bits: tuple[int, int] = (8, 8)
    """Of SH of degree 1, and of higher ones (the library itself writes 5 and 4)."""
    level: int = 6
    """Of gzip."""


def write_spz(path: Path, source: SceneSource, config: SpzConfig | None = None) -> None:
    """Gaussians are ordered along a Morton curve, within parts of 262,144."""
    config = config or SpzConfig()
    bits = config.fraction_bits
    if bits is None:
        bits = _fraction_bits(source)
    bits = max(bits - config.dropped_bits, 0)
    header = SpzHeader(VERSION, source.count, source.sh_degree, bits)
    sections: list[Callable[[Gaussians], np.ndarray]] = [
        lambda part: _positions(part, bits),
        lambda part: encodings.encode_steps(part.opacities.numpy(), 8).astype(np.uint8),
        lambda part: _bytes((COLOR_SPAN * part.sh[:, 0].numpy() + 0.5) * 255),
        _log_scales,
        _turns,
    ]
    if source.sh_degree:
        sections.append(lambda part: _sh(part, config.sh_bits))
    with (
        atomic_output(path) as temporary,
        temporary.open("wb") as raw,
        gzip.GzipFile("", "wb", config.level, raw, mtime=0) as file,
    ):
        file.write(header.packed(MAGIC))
        for turn, section in enumerate(sections):
            for part in source.read(turn, len(sections)):
                file.write(section(in_morton_order(part)).tobytes())


def _fraction_bits(source: SceneSource) -> int:
    """Steps of a sixteenth of small Gaussians' scales, but at least as fine as the library's, as
    far as the range of positions allows."""
    far, sizes = 1e-9, []
    for part in source.parts():
        far = max(far, float(part.means.abs().max()) if len(part) else 0.0)
        middle = part.scales.median(1).values
        sizes.append(float(middle.quantile(0.1)))
    wanted = math.ceil(math.log2(16 / max(min(sizes, default=1.0), 1e-9)))
    allowed = math.floor(math.log2(POSITION_MAX / far))
    if allowed < 0:
        log.warning("positions up to %g are beyond the range of SPZ; they are clipped", far)
    return min(max(min(max(wanted, LIBRARY_BITS), allowed), 0), 23)


def _bytes(values: np.ndarray) -> np.ndarray:
    return np.clip(np.round(values), 0, 255).astype(np.uint8)


def _positions(part: Gaussians, bits: int) -> np.ndarray:
    fixed = np.round(part.means.double().numpy() * (1 << bits))
    fixed = np.clip(fixed, -POSITION_MAX - 1, POSITION_MAX).astype("<i4")
    return fixed.reshape(-1, 1).view(np.uint8)[:, :3].copy()


def _log_scales(part: Gaussians) -> np.ndarray:
    logs = encodings.encode_scales(part.scales.double().numpy())
    return _bytes((logs + LOG_OFFSET) * LOG_STEPS)


def _turns(part: Gaussians) -> np.ndarray:
    """2 bits: which component is the largest; for each other one, its sign and 9 bits."""
    quats = part.quats.numpy()[:, [1, 2, 3, 0]]
    largest, three = encodings.encode_smallest_three(quats)
    steps = np.floor(TURN_MAX * np.abs(three) / encodings.SQRT_HALF + 0.5)
    steps = np.minimum(steps, TURN_MAX).astype(np.uint32)
    word = largest.astype(np.uint32)
    for column in range(3):
        sign = (three[:, column] < 0).astype(np.uint32)
        word = (word << np.uint32(10)) | (sign << np.uint32(9)) | steps[:, column]
    return word.astype("<u4")


def _sh(part: Gaussians, bits: tuple[int, int]) -> np.ndarray:
    """Colour inside coefficient; coarser bits are left zero, which packs better."""
    values = np.floor(part.sh.numpy()[:, 1:] * 128 + 128.5)
    step = np.where(np.arange(values.shape[1]) < 3, 1 << (8 - bits[0]), 1 << (8 - bits[1]))
    step = step[:, None]
    return np.clip(np.floor((values + step // 2) / step) * step, 0, 255).astype(np.uint8)


def open_spz(path: Path) -> SceneSource:
    """The Gaussians of a file of version 2, 3 or 4; InputError when it is damaged."""
    header, streams = read_spz(path)

    def parts() -> Iterator[Gaussians]:
        for start in range(0, header.count, ROWS):
            rows = {name: stream[start : start + ROWS] for name, stream in streams.items()}
            yield _decoded(header, rows)

    return SceneSource(header.count, header.sh_degree, parts)


def _decoded(header: SpzHeader, part: dict[str, np.ndarray]) -> Gaussians:
    digits = part["positions"].reshape(-1, 3)
    # The highest byte goes to the top of four, so that shifting back keeps the sign.
    wide = np.zeros((len(digits), 4), np.uint8)
    wide[:, 1:] = digits
    fixed = (wide.view("<i4")[:, 0] >> 8).reshape(-1, 3)
    means = fixed / (1 << header.fraction_bits)
    sh = ((part["sh"].astype(np.float32) - 128) / 128).reshape(len(means), -1, 3)
    f_dc = (part["colors"].astype(np.float32) / 255 - 0.5) / COLOR_SPAN
    scales = encodings.decode_scales(part["scales"].astype(np.float32) / LOG_STEPS - LOG_OFFSET)
    turns = _decoded_turns(header.version, part["rotations"])
    return Gaussians(
        means=torch.from_numpy(means.astype(np.float32)),
        quats=torch.from_numpy(encodings.decode_quats(turns[:, [3, 0, 1, 2]])),
        scales=torch.from_numpy(scales),
        opacities=torch.from_numpy(part["alphas"][:, 0].astype(np.float32) / 255),
        sh=torch.from_numpy(np.concatenate([f_dc[:, None], sh], 1)),
    )


def _decoded_turns(version: int, raw: np.ndarray) -> np.ndarray:
    """Quaternions xyzw. Version 2 has x, y, z in a byte each, w above zero."""
    if version == 2:
        xyz = raw.astype(np.float32) / 127.5 - 1
        w = np.sqrt(np.maximum(1 - np.square(xyz).sum(1, keepdims=True), 0))
        return np.concatenate([xyz, w], 1)
    word = raw.copy().view("<u4")[:, 0]
    fields = np.stack([word >> np.uint32(shift) & np.uint32(1023) for shift in (20, 10, 0)], 1)
    size = (fields & TURN_MAX).astype(np.float32) * np.float32(encodings.SQRT_HALF / TURN_MAX)
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
