"""PlayCanvas's SOG: lossless WebP textures and a meta.json, in a zip or a folder.

recon writes version 2, as a zip. Version 1 has bounds in place of codebooks.
"""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recon.errors import warn
from recon.files import atomic_output
from recon.formats import encodings
from recon.formats.attribute_sizes import sum_by_attribute
from recon.formats.codebook import codebook, nearest, palette
from recon.formats.morton import in_texture_order
from recon.formats.sog_archive import Archive, texture_size, webp
from recon.formats.source import SceneSource
from recon.precision import Origin, local_origin
from recon.start_camera import from_json, to_json
from render import Gaussians

# Number of SH coefficients above degree 0 by degree; the format ends at degree 3.
SH_TERMS = (0, 3, 8, 15)
PALETTE_COLUMNS = 64
# Alpha is this plus the index of the largest component of a quaternion.
LARGEST_BASE = 252
# Fraction of the Gaussians that may be rounded by more than their size without a warning.
MAX_COARSE = 0.05


def write_sog(path: Path, source: SceneSource, dropped_bits: int = 0) -> None:
    """Write a SOG; Gaussians are sorted along Morton curves, and SH of degree 4 are dropped.

    Args:
        path: File to write.
        source: At least one Gaussian.
        dropped_bits: Number of lowest position bits to drop, which improves the compression.
    """
    scene = in_texture_order(source.load(), texture_size(source.count)[0])
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": "recon"}, "count": len(scene)}
    if source.antialiased:
        meta["model"] = "antialiased"
    if source.start is not None:
        meta["asset"]["start_camera"] = to_json(source.start)
    files: dict[str, bytes] = {}
    means = scene.means.double().numpy() + source.origin
    _add_means(means, meta, files, dropped_bits)
    if dropped_bits == 0:
        _tell_coarse(path, means, scene)
    _add_quats(scene, meta, files)
    logs = encodings.encode_scales(scene.scales.double().numpy())
    book = codebook(logs)
    files["scales.webp"] = webp(nearest(book, logs))
    meta["scales"] = {"codebook": book.tolist(), "files": ["scales.webp"]}
    f_dc = scene.sh[:, 0].numpy()
    book = codebook(f_dc)
    alpha = encodings.encode_steps(scene.opacities.numpy(), 8)
    files["sh0.webp"] = webp(np.concatenate([nearest(book, f_dc), alpha[:, None]], 1))
    meta["sh0"] = {"codebook": book.tolist(), "files": ["sh0.webp"]}
    if scene.sh_degree:
        _add_sh(scene, meta, files)
    with atomic_output(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        # meta.json first, for readers that stream; WebP does not compress any further.
        for name, data in {"meta.json": json.dumps(meta).encode(), **files}.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    source.report(1.0)


def float32_log_error(origin: Origin) -> float:
    """Return by how much viewers that decode logarithms in float32 round positions (units)."""
    far = float(np.abs(origin).max())
    return (1 + far) * float(np.spacing(np.float32(np.log1p(far)))) / 2


def _tell_coarse(path: Path, means: np.ndarray, scene: Gaussians) -> None:
    """Warn if positions are rounded by more than the sizes of many Gaussians."""
    logs = np.log1p(np.abs(means)) * np.sign(means)
    errors = ((1 + np.abs(means)) * (logs.max(0) - logs.min(0)) / 131070).max(1)
    coarse = errors > scene.scales.median(1).values.numpy()
    if coarse.mean() > MAX_COARSE:
        warn(
            f"{path}: SOG rounds positions by more than the size of the Gaussian for "
            f"{coarse.sum()} of {len(scene)}, by up to {errors.max():.3g} units; write .ply"
        )


def _add_means(
    means: np.ndarray, meta: dict[str, Any], files: dict[str, bytes], dropped_bits: int
) -> None:
    logs = np.sign(means) * np.log1p(np.abs(means))
    low, high = logs.min(0), logs.max(0)
    steps = encodings.encode_steps((logs - low) / np.maximum(high - low, 1e-30), 16)
    coarse = 1 << dropped_bits
    steps = np.minimum((steps + coarse // 2) // coarse * coarse, 65536 - coarse)
    files["means_l.webp"], files["means_u.webp"] = webp(steps & 255), webp(steps >> 8)
    names = ["means_l.webp", "means_u.webp"]
    meta["means"] = {"mins": low.tolist(), "maxs": high.tolist(), "files": names}


def _add_quats(scene: Gaussians, meta: dict[str, Any], files: dict[str, bytes]) -> None:
    largest, three = encodings.encode_smallest_three(scene.quats.numpy())
    steps = encodings.encode_steps(0.5 + three * encodings.SQRT_HALF, 8)
    files["quats.webp"] = webp(np.concatenate([steps, LARGEST_BASE + largest[:, None]], 1))
    meta["quats"] = {"files": ["quats.webp"]}


def _add_sh(scene: Gaussians, meta: dict[str, Any], files: dict[str, bytes]) -> None:
    degree = min(scene.sh_degree, 3)
    terms = SH_TERMS[degree]
    rest = scene.sh[:, 1 : 1 + terms].transpose(1, 2).reshape(len(scene), -1)
    # 1,024 to 65,536 depending on the number of Gaussians, as in splat-transform.
    size = min(64, 2 ** max(int(np.log2(max(len(scene) / 1024, 1))), 0)) * 1024
    centers, label = palette(rest, size)
    book = codebook(centers.numpy())
    rows = -(-len(centers) // PALETTE_COLUMNS)
    steps = np.zeros((rows * PALETTE_COLUMNS, 3, terms), np.uint8)
    steps[: len(centers)] = nearest(book, centers.numpy()).reshape(-1, 3, terms)
    grid = steps.transpose(0, 2, 1).reshape(rows, PALETTE_COLUMNS * terms, 3)
    files["shN_centroids.webp"] = webp(grid, (PALETTE_COLUMNS * terms, rows))
    labels = label.numpy()
    files["shN_labels.webp"] = webp(np.stack([labels & 255, labels >> 8, 0 * labels], 1))
    meta["shN"] = {
        "count": len(centers), "bands": degree, "codebook": book.tolist(),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }  # fmt: skip


def open_sog(path: Path) -> SceneSource:
    """Open a .sog, or the meta.json of one that is not bundled; InputError if it is damaged."""
    with Archive(path) as archive:
        meta = archive.meta()
        count = meta["count"]
        lower, upper = (archive.texels(meta, "means", index, count) for index in (0, 1))
        steps = lower[:, :3].astype(np.float64) + 256.0 * upper[:, :3]
        logs = archive.scaled(meta, "means", steps, 16)
        means = np.sign(logs) * np.expm1(np.minimum(np.abs(logs), 80))
        origin = local_origin(means)
        quats = archive.texels(meta, "quats", 0, count)
        three = (quats[:, :3].astype(np.float32) / 255 - 0.5) / encodings.SQRT_HALF
        largest = np.clip(quats[:, 3].astype(np.int64) - LARGEST_BASE, 0, 3)
        scales, f_dc, opacities = _values(archive, meta, count)
        huge = int((scales > encodings.MAX_LOG_SCALE).any(1).sum())
        if huge:
            warn(f"{path}: clipped {huge} of {count} scales to {encodings.MAX_SCALE:.2g} units")
        rest = _palette_values(archive, meta, count) if "shN" in meta else np.zeros((count, 0))
    scene = Gaussians(
        means=torch.from_numpy((means - origin).astype(np.float32)),
        quats=torch.from_numpy(encodings.decode_smallest_three(largest, three)),
        scales=torch.from_numpy(encodings.decode_scales(scales)),
        opacities=torch.from_numpy(opacities),
        sh=torch.from_numpy(encodings.decode_sh(f_dc, rest.astype(np.float32))),
    )
    asset = meta.get("asset")
    start = from_json(asset.get("start_camera")) if isinstance(asset, dict) else None
    return SceneSource.of(scene, origin, meta.get("model") == "antialiased", start)


def _values(
    archive: Archive, meta: dict[str, Any], count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return log scales [n 3], f_dc [n 3] and opacities [n], float32."""
    scales = archive.texels(meta, "scales", 0, count)[:, :3]
    color = archive.texels(meta, "sh0", 0, count)
    if meta["version"] == 2:
        f_dc = archive.coded(meta, "sh0", color[:, :3])
        opacities = color[:, 3].astype(np.float32) / 255
        return archive.coded(meta, "scales", scales), f_dc, opacities
    # The fourth bounds are those of the logits.
    values = archive.scaled(meta, "sh0", color).astype(np.float32)
    opacities = encodings.decode_opacities(values[:, 3])
    return archive.scaled(meta, "scales", scales).astype(np.float32), values[:, :3], opacities


def _palette_values(archive: Archive, meta: dict[str, Any], count: int) -> np.ndarray:
    """Return the SH above degree 0 as [n 3(k-1)]."""
    labels = archive.texels(meta, "shN", 1, count)
    index = labels[:, 0].astype(np.int64) + 256 * labels[:, 1].astype(np.int64)
    if meta["version"] == 2:
        degree = archive.integer(meta["shN"], "bands", 1, 3)
        size = archive.integer(meta["shN"], "count", 1, 1 << 16)
        terms = SH_TERMS[degree]
        width = PALETTE_COLUMNS * terms
    else:
        # The width of the palette tells the degree.
        width, size = archive.texture_shape(meta, "shN", 0)
        terms, size = width // PALETTE_COLUMNS, size * PALETTE_COLUMNS
        if terms not in SH_TERMS[1:] or width % PALETTE_COLUMNS:
            raise archive.damaged(f"a palette of SH with a width of {width} px")
        size = min(size, int(index.max(initial=0)) + 1)
    if int(index.max(initial=0)) >= size:
        raise archive.damaged(f"a label of {index.max()} for a palette of size {size}")
    texels = archive.texels(meta, "shN", 0, size * terms, width)[:, :3]
    if meta["version"] == 2:
        values = archive.coded(meta, "shN", texels)
    else:
        values = archive.scaled(meta, "shN", texels)
    values = values.reshape(size, terms, 3)
    return np.asarray(values.transpose(0, 2, 1).reshape(size, -1)[index])


def sog_attribute_bytes(path: Path, count: int, sh_degree: int) -> dict[str, float]:
    """Return the bytes per Gaussian of each attribute of a .sog."""
    with Archive(path) as archive:
        sizes = archive.sizes()
    # Otherwise meta.json would count as positions, like means_*.webp.
    return sum_by_attribute(
        ((name.replace("meta", "other"), size) for name, size in sizes.items()), count
    )
