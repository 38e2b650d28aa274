"""Size, loss on held-out photos and time of every way to store a scene.

python -m training.evaluation.rate_distortion configs/captures.yaml --only fox/4v
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recon.capture import load_capture
from recon.compress import Looks, Packed, Packer
from recon.config import ReconstructConfig, SimplifyConfig
from recon.formats import FORMATS, load_gaussians, save_gaussians
from recon.pipeline import finish_scene, predict
from recon.reporting import say
from recon.simplify import importance_order
from recon.types import Views
from render import Gaussians
from training.evaluation.glossy import glossy
from training.evaluation.reconstruction import context_and_targets, mean_psnr, render_targets
from training.evaluation.splat_transform import (
    FOREIGN,
    has_foreign,
    independent_loss_db,
    run_foreign,
)
from training.evaluation.suite import Case, read_split, read_suite

# Lossless formats say nothing about rate against distortion.
LOSSY_FORMATS = (".compressed.ply", ".splat", ".spz", ".sog")
QUANTISED_FORMATS = tuple(name for name, f in FORMATS.items() if f.write_quantised)
PARTS = (0.5, 0.25, 0.1)
MAX_LOSS_DB, TARGET_MB = 0.1, 2.0
# Of the scene with a Gaussian for every pixel, as PLY; and of the foreign tool's file.
SMALLER, SMALLER_THAN_FOREIGN = 30, 1.5


@dataclass(frozen=True)
class Bench:
    """One scene and what judges it."""

    context: Views
    targets: Views
    scene: Gaussians
    """As `recon` makes it by default."""
    whole: Gaussians
    """With a Gaussian for every pixel."""
    folder: Path

    @staticmethod
    def of(case: Case, folder: Path, settings: ReconstructConfig) -> "Bench":
        """Reconstruct, twice."""
        capture = load_capture(case.capture)
        context, targets = context_and_targets(capture, read_split(capture, case.split), settings)
        prediction = predict(context, settings.model)
        scene, whole = (
            finish_scene(prediction, context, given).gaussians
            for given in (settings, replace(settings, simplify=SimplifyConfig(fraction=0.0)))
        )
        return Bench(context, targets, scene, whole, folder)

    def shiny(self) -> "Bench":
        """With highlights of degree 3; the scene's own pictures are what is right."""
        scene, whole = glossy(self.scene), glossy(self.whole)
        context, targets = (
            replace(views, images=render_targets(scene, views))
            for views in (self.context, self.targets)
        )
        return replace(self, context=context, targets=targets, scene=scene, whole=whole)

    def row(self, name: str, path: Path, write: Callable[[], object]) -> dict[str, Any]:
        """Write a file and look at what it gives back."""
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


def rows_of(bench: Bench) -> Iterator[dict[str, Any]]:
    """Every way to store the scene."""
    raw, plain = bench.folder / "raw.ply", bench.folder / "plain.ply"
    yield bench.row("raw PLY", raw, partial(save_gaussians, raw, bench.whole))
    yield bench.row("PLY", plain, partial(save_gaussians, plain, bench.scene))
    for suffix in LOSSY_FORMATS:
        path = bench.folder / f"plain{suffix}"
        yield bench.row(suffix, path, partial(save_gaussians, path, bench.scene))
    sizes = {f"1/{SMALLER} of raw": raw.stat().st_size / SMALLER / 1e6}
    sizes[f"--target-size {TARGET_MB:g}"] = TARGET_MB
    looks = Looks.of(bench.scene, bench.context.cameras, photos=bench.context)
    if has_foreign():
        path = bench.folder / "foreign.sog"
        row = bench.row(f"{FOREIGN} .sog", path, partial(run_foreign, str(plain), str(path)))
        yield row | {"independent_loss_db": independent_loss_db(path, looks, bench.folder)}
        share = f"1/{SMALLER_THAN_FOREIGN:g} of {FOREIGN}"
        sizes[share] = path.stat().st_size / SMALLER_THAN_FOREIGN / 1e6
    for suffix in QUANTISED_FORMATS:
        yield from packed_rows(bench, looks, suffix, sizes)


def packed_rows(
    bench: Bench, looks: Looks, suffix: str, sizes: dict[str, float]
) -> Iterator[dict[str, Any]]:
    """Within a loss, and within sizes (MB)."""
    path = bench.folder / f"packed{suffix}"
    with Packer(bench.scene, looks, suffix) as packer:
        found: list[Packed] = []

        def pack(search: Callable[[], Packed]) -> None:
            found.append(search())
            packer.save(found[-1], path)

        searches: dict[str, Callable[[], Packed]] = {
            f"--max-loss {MAX_LOSS_DB:g}": partial(packer.within_loss, MAX_LOSS_DB, _quiet)
        }
        for name, size in sizes.items():
            searches[name] = partial(packer.within_size, size, _quiet)
        for name, search in searches.items():
            row = bench.row(f"{name} {suffix}", path, partial(pack, search))
            row |= {"wanted_mb": sizes.get(name), "claimed_loss_db": found[-1].loss_db}
            if has_foreign():
                row["independent_loss_db"] = independent_loss_db(path, looks, bench.folder)
            yield row


def _quiet(done: float) -> None:
    pass


def prefixes_of(bench: Bench) -> Iterator[dict[str, Any]]:
    """The most important part of the Gaussians against any: PSNR to the whole scene's pictures."""
    scene, cameras = bench.scene, bench.context.cameras
    truth = render_targets(scene, bench.targets)
    generator = torch.Generator().manual_seed(0)
    orders = {
        "prefix": importance_order(scene, cameras),
        "random": torch.randperm(len(scene), generator=generator),
    }
    for part in PARTS:
        count = round(part * len(scene))
        row: dict[str, Any] = {"part": part}
        for name, order in orders.items():
            shown = render_targets(scene[order[:count]], bench.targets)
            row[name] = float(-10 * torch.log10((shown - truth).square().mean()))
        yield row


def measure(case: Case, shiny: bool, report: Callable[[str], None]) -> dict[str, Any]:
    """Everything about one capture and split."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.of(case, Path(folder), ReconstructConfig())
        if shiny:
            bench = bench.shiny()
        report(f"{case.capture.name} {case.split}")
        prefixes = list(prefixes_of(bench))
        for row in prefixes:
            report(f"  {row['part']:.0%}: {row['prefix']:.2f} dB, random {row['random']:.2f} dB")
        rows = []
        for row in rows_of(bench):
            rows.append(row)
            report(
                f"  {row['name']:26} {row['bytes'] / 1e6:7.2f} MB {row['gaussians']:8,} "
                f"{row['psnr']:6.2f} dB  {row['encode_s']:6.1f} s {row['decode_s']:5.1f} s"
            )
    return {
        "capture": case.capture.name, "split": case.split, "rows": rows, "prefixes": prefixes
    }  # fmt: skip


def main() -> None:
    """A suite's cases, to a JSON file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("suite", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="cases: fox, fox/4v")
    parser.add_argument("--shiny", action="store_true", help="highlights of SH degree 3 on all")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    results = [
        measure(case, arguments.shiny, say)
        for case in read_suite(arguments.suite).chosen(arguments.only)
    ]
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
