"""How many floaters `recon clean` finds of those put into scenes, and what held-out photos lose.

python -m training.evaluation.floaters CAPTURE... --quality draft --json FILE

The scene is cleaned first, which tells the loss of the held-out photos. Then floaters of each kind
are put into what remains, so that every Gaussian removed beside them is an error.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from recon.capture import load_capture, load_views
from recon.capture.cameras import DEFAULT_LONG_SIDE_PX, relative_to
from recon.cleaning.floaters import CleanConfig, find_floaters
from recon.config import Quality, ReconstructConfig
from recon.local_frame import camera_origin
from recon.meshing.depth_maps import DepthMap, render_depth_maps
from recon.meshing.viewpoints import capture_cameras, with_midpoints
from recon.pipeline import reconstruct
from recon.reporting import say
from recon.types import Views
from render import Cameras, Gaussians, RasterizeSettings
from training.evaluation.captures import context_and_targets
from training.evaluation.scoring import mean_psnr
from training.evaluation.suite import read_split
from training.programs import check_outputs, program, write_numbers

FRACTIONS = (0.01, 0.05)


@dataclass(frozen=True)
class Kind:
    """A kind of floaters; each property is drawn between two bounds."""

    along: tuple[float, float]
    """Depth relative to that of the surface in the pixel."""
    size: tuple[float, float]
    """Standard deviation relative to the distance from the camera."""
    opacity: tuple[float, float]


KINDS = {
    "apart": Kind(along=(0.3, 0.8), size=(0.002, 0.02), opacity=(0.3, 0.95)),
    "near a camera": Kind(along=(0.05, 0.25), size=(0.002, 0.01), opacity=(0.3, 0.95)),
    "haze": Kind(along=(0.2, 0.8), size=(0.06, 0.2), opacity=(0.03, 0.25)),
}


@dataclass(frozen=True)
class FloaterScores:
    """What was found of floaters of one kind."""

    scene: str
    kind: str
    fraction: float
    """Number of floaters relative to that of the scene's Gaussians."""
    precision: float
    """Fraction of the removed Gaussians that were put in."""
    recall: float
    """Fraction of those put in that were removed."""


def floaters(kind: Kind, count: int, maps: list[DepthMap], terms: int, seed: int) -> Gaussians:
    """Make floaters between cameras and the surfaces that they see.

    Args:
        kind: Where they are, how large, and how opaque.
        count: Number of floaters.
        maps: Depth seen by the cameras.
        terms: Number of spherical harmonics of the scene.
        seed: Seed of the random values.
    """
    generator = torch.Generator().manual_seed(seed)

    def between(bounds: tuple[float, float], *shape: int) -> Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(*shape, generator=generator)

    maps = [each for each in maps if (each.depth > 0).any()]
    centers, surfaces = [], []
    for index in torch.randint(len(maps), (count,), generator=generator).tolist():
        rows, columns = (maps[index].depth > 0).nonzero(as_tuple=True)
        chosen = int(torch.randint(len(rows), (1,), generator=generator))
        pixel = rows[chosen], columns[chosen]
        origins, dirs = (rays[0] for rays in maps[index].camera.rays())
        centers.append(origins[pixel])
        surfaces.append(origins[pixel] + maps[index].depth[pixel] * dirs[pixel])
    away = (torch.stack(surfaces) - torch.stack(centers)) * between(kind.along, count, 1)
    size = between(kind.size, count, 3) * away.norm(dim=1, keepdim=True)
    sh = torch.zeros(count, terms, 3)
    sh[:, 0] = between((-1.5, 1.5), count, 3)
    quats = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=1)
    means = torch.stack(centers) + away
    return Gaussians(means, quats, size, between(kind.opacity, count), sh)


def mixed(count: int, maps: list[DepthMap], terms: int) -> dict[str, Gaussians]:
    """Make floaters of all kinds, equally many of each."""
    return {
        name: floaters(kind, count // len(KINDS), maps, terms, seed)
        for seed, (name, kind) in enumerate(KINDS.items())
    }


def score_floaters(
    scene: str, gaussians: Gaussians, cameras: list[Cameras], antialiased: bool, fraction: float,
    config: CleanConfig | None = None, photos: Views | None = None,
) -> list[FloaterScores]:  # fmt: skip
    """Put floaters of all kinds into a clean scene, and count those found of each and of all."""
    maps = render_depth_maps(gaussians, cameras, antialiased, lambda done: None)
    added = mixed(round(fraction * len(gaussians)), maps, gaussians.sh.shape[1])
    together = Gaussians.cat([gaussians, *added.values()])
    found = find_floaters(together, cameras, config, antialiased, photos=photos)
    wrong = int(found[: len(gaussians)].sum())
    parts = dict(zip(added, found[len(gaussians) :].split(len(added["haze"])), strict=True))
    parts["all"] = found[len(gaussians) :]
    precision = float(parts["all"].sum()) / max(int(parts["all"].sum()) + wrong, 1)
    return [
        FloaterScores(scene, kind, fraction, precision, float(part.float().mean()))
        for kind, part in parts.items()
    ]


def evaluate(path: Path, split_name: str, quality: Quality) -> list[FloaterScores]:
    """Reconstruct a capture, clean the scene, and find floaters put into it."""
    capture = load_capture(path)
    capture = relative_to(capture, camera_origin(capture.frames))
    split = read_split(capture, split_name)
    targets = context_and_targets(split, DEFAULT_LONG_SIDE_PX)[1]
    views = load_views(split.context, DEFAULT_LONG_SIDE_PX)
    scene = reconstruct(views, ReconstructConfig.for_quality(quality))
    context = replace(capture, frames=split.context)
    cameras = with_midpoints(capture_cameras(context, CleanConfig().resolution))
    with torch.no_grad():
        photos = load_views(split.context, CleanConfig().resolution)
        found = find_floaters(
            scene.gaussians, cameras, antialiased=scene.antialiased, photos=photos
        )
        clean = scene.gaussians[~found]
        before, after = (
            mean_psnr(gaussians, targets, RasterizeSettings(antialiased=scene.antialiased))
            for gaussians in (scene.gaussians, clean)
        )
        say(
            f"{path.name}: {int(found.sum()):,} of {len(found):,} Gaussians removed, held-out PSNR "
            f"{before:.3f} -> {after:.3f} dB"
        )
        return [
            row
            for fraction in FRACTIONS
            for row in score_floaters(
                path.name, clean, cameras, scene.antialiased, fraction, photos=photos
            )
        ]


@program
def main(words: Sequence[str] | None = None) -> None:
    """Measure captures and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("captures", type=Path, nargs="+", metavar="CAPTURE")
    parser.add_argument("--split", default="dense")
    parser.add_argument("--quality", default="draft", choices=["draft", "standard", "high"])
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args(words)
    check_outputs(options.json)
    rows = []
    for capture in options.captures:
        for row in evaluate(capture, options.split, options.quality):
            rows.append(asdict(row))
            numbers = f"{row.precision:.3f} | {row.recall:.3f}"
            say(f"| {row.scene} | {row.fraction:.0%} | {row.kind} | {numbers} |")
    write_numbers(rows, options.json)


if __name__ == "__main__":
    main()
