"""Rate-distortion measurement: size, held-out PSNR and time of every way to store a scene.

python -m training.evaluation.rate_distortion configs/captures.yaml --only fox/4v
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recon.capture import load_capture
from recon.compression import EncodedScene, RateDistortionObjective, compress
from recon.config import ReconstructConfig, SimplifyConfig
from recon.formats import FORMATS, load_gaussians, save_gaussians
from recon.model.registry import build_model
from recon.pipeline import finish_scene, predict_for_scene
from recon.reporting import say
from recon.simplification.decimation import importance_order
from recon.types import Views
from render import Gaussians
from training.evaluation.captures import context_and_targets
from training.evaluation.glossy import glossy
from training.evaluation.scoring import mean_psnr, render_targets
from training.evaluation.splat_transform import (
    SPLAT_TRANSFORM,
    has_splat_transform,
    independent_loss_db,
    run_splat_transform,
)
from training.evaluation.suite import Case, read_split, read_suite
from training.programs import check_outputs, program, write_numbers

# Lossless formats say nothing about rate against distortion.
LOSSY_FORMATS = (".compressed.ply", ".splat", ".spz", ".sog")
QUANTISED_FORMATS = tuple(name for name, f in FORMATS.items() if f.write_quantised)
RAW_FILE, PLAIN_FILE = "raw.ply", "plain.ply"
# Fractions of the Gaussians that are kept to measure their order of importance.
KEPT_FRACTIONS = (0.5, 0.25, 0.1)
MAX_LOSS_DB, TARGET_MB = 0.1, 2.0
# Target sizes: divisors of the size of the unsimplified PLY, and of splat-transform's file.
RAW_DIVISOR, SPLAT_TRANSFORM_DIVISOR = 30, 1.5


@dataclass(frozen=True)
class Subject:
    """A scene to store, and the views it is evaluated on."""

    context: Views
    targets: Views
    scene: Gaussians
    """The scene that `recon` makes by default."""
    unsimplified: Gaussians
    """The scene with a Gaussian for every pixel."""
    folder: Path
    """Folder of temporary files."""

    @staticmethod
    def reconstruct(case: Case, folder: Path, config: ReconstructConfig) -> "Subject":
        """Reconstruct a case with and without simplification, from one prediction."""
        split = read_split(load_capture(case.capture), case.split)
        context, targets = context_and_targets(split, config.views.resolution)
        prediction = predict_for_scene(context, build_model(config.model), config)
        scene, unsimplified = (
            finish_scene(prediction, context, each).gaussians
            for each in (config, replace(config, simplify=SimplifyConfig(fraction=0.0)))
        )
        return Subject(context, targets, scene, unsimplified, folder)

    def with_highlights(self) -> "Subject":
        """Return the scene with highlights of degree 3; its own renders replace the photos."""
        scene, unsimplified = glossy(self.scene), glossy(self.unsimplified)
        context, targets = (
            replace(views, images=render_targets(scene, views))
            for views in (self.context, self.targets)
        )
        return replace(
            self, context=context, targets=targets, scene=scene, unsimplified=unsimplified
        )

    def row(self, name: str, path: Path, write: Callable[[], object]) -> dict[str, Any]:
        """Write a file, read it again and return its size, PSNR and times."""
        started = time.perf_counter()
        write()
        written = time.perf_counter()
        scene = load_gaussians(path)
        read = time.perf_counter()
        return {
            "name": name, "bytes": path.stat().st_size, "gaussians": len(scene),
            "psnr": mean_psnr(scene, self.targets),
            "encode_s": written - started, "decode_s": read - written,
        }  # fmt: skip


def plain_rows(subject: Subject) -> Iterator[dict[str, Any]]:
    """Measure the scene in every format, as it is written without a search."""
    raw, plain = subject.folder / RAW_FILE, subject.folder / PLAIN_FILE
    yield subject.row("raw PLY", raw, partial(save_gaussians, raw, subject.unsimplified))
    yield subject.row("PLY", plain, partial(save_gaussians, plain, subject.scene))
    for suffix in LOSSY_FORMATS:
        path = subject.folder / f"plain{suffix}"
        yield subject.row(suffix, path, partial(save_gaussians, path, subject.scene))


def format_rows(subject: Subject) -> Iterator[dict[str, Any]]:
    """Measure the scene in every format, then compressed to a loss and to several sizes."""
    yield from plain_rows(subject)
    raw, plain = subject.folder / RAW_FILE, subject.folder / PLAIN_FILE
    sizes = {f"1/{RAW_DIVISOR} of raw": raw.stat().st_size / RAW_DIVISOR / 1e6}
    sizes[f"--target-size {TARGET_MB:g}"] = TARGET_MB
    views = subject.context
    objective = RateDistortionObjective.of(subject.scene, views.cameras, photos=views)
    if has_splat_transform():
        path = subject.folder / "splat-transform.sog"
        write = partial(run_splat_transform, str(plain), str(path))
        row = subject.row(f"{SPLAT_TRANSFORM} .sog", path, write)
        yield row | {"independent_loss_db": independent_loss_db(path, objective, subject.folder)}
        name = f"1/{SPLAT_TRANSFORM_DIVISOR:g} of {SPLAT_TRANSFORM}"
        sizes[name] = path.stat().st_size / SPLAT_TRANSFORM_DIVISOR / 1e6
    for suffix in QUANTISED_FORMATS:
        yield from compressed_rows(subject, objective, suffix, sizes)


def compressed_rows(
    subject: Subject, objective: RateDistortionObjective, suffix: str, sizes: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Measure compression of one format to a maximum loss and to target sizes (MB)."""
    path = subject.folder / f"compressed{suffix}"
    limits: dict[str, tuple[float | None, float | None]]
    limits = {f"--max-loss {MAX_LOSS_DB:g}": (MAX_LOSS_DB, None)}
    limits |= {name: (None, size) for name, size in sizes.items()}
    for name, (max_loss_db, target_mb) in limits.items():
        found: list[EncodedScene] = []
        write = partial(_compress, subject, path, max_loss_db, target_mb, found)
        row = subject.row(f"{name} {suffix}", path, write)
        row |= {"wanted_mb": target_mb, "claimed_loss_db": found[0].loss_db}
        if has_splat_transform():
            row["independent_loss_db"] = independent_loss_db(path, objective, subject.folder)
        yield row


def _compress(
    subject: Subject,
    path: Path,
    max_loss_db: float | None,
    target_mb: float | None,
    found: list[EncodedScene],
) -> None:
    """Compress the scene and append the result to `found`."""
    found.append(
        compress(
            subject.scene, path,
            max_loss_db=max_loss_db, target_mb=target_mb, views=subject.context,
        )
    )  # fmt: skip


def prefix_rows(subject: Subject) -> Iterator[dict[str, Any]]:
    """Measure the PSNR of the most important Gaussians, and of random ones, to the whole scene."""
    scene, cameras = subject.scene, subject.context.cameras
    reference = render_targets(scene, subject.targets)
    generator = torch.Generator().manual_seed(0)
    orders = {
        "prefix": importance_order(scene, cameras),
        "random": torch.randperm(len(scene), generator=generator),
    }
    for fraction in KEPT_FRACTIONS:
        count = round(fraction * len(scene))
        row: dict[str, Any] = {"fraction": fraction}
        for name, order in orders.items():
            renders = render_targets(scene[order[:count]], subject.targets)
            row[name] = float(-10 * torch.log10((renders - reference).square().mean()))
        yield row


def measure(case: Case, highlights: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Return all measurements of one capture and split."""
    with tempfile.TemporaryDirectory() as folder:
        subject = Subject.reconstruct(case, Path(folder), ReconstructConfig())
        if highlights:
            subject = subject.with_highlights()
        report(f"{case.capture.name} {case.split}")
        prefixes = list(prefix_rows(subject))
        for row in prefixes:
            report(
                f"  {row['fraction']:.0%}: {row['prefix']:.2f} dB, random {row['random']:.2f} dB"
            )
        rows = []
        for row in format_rows(subject):
            rows.append(row)
            report(
                f"  {row['name']:26} {row['bytes'] / 1e6:7.2f} MB {row['gaussians']:8,} "
                f"{row['psnr']:6.2f} dB  {row['encode_s']:6.1f} s {row['decode_s']:5.1f} s"
            )
    return {
        "capture": case.capture.name, "split": case.split, "rows": rows, "prefixes": prefixes
    }  # fmt: skip


@program
def main(words: Sequence[str] | None = None) -> None:
    """Measure the cases of a suite; optionally write them to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="cases: fox, fox/4v")
    parser.add_argument("--highlights", action="store_true", help="add highlights of SH degree 3")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(words)
    check_outputs(arguments.json)
    results = [
        measure(case, arguments.highlights, say)
        for case in read_suite(arguments.suite).select(arguments.only)
    ]
    write_numbers(results, arguments.json)


if __name__ == "__main__":
    main()
