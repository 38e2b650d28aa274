"""The regression gate: numbers that must not become worse, on data that ships with the project.

python -m training.benchmark_report.gate            # measure, and compare with the stored numbers
python -m training.benchmark_report.gate --write    # measure, and store

All of them are deterministic on one machine; the tolerances are for other processors. Without bf16
and AVX-512, and with the kernel's build for SSE2, PSNR differed by up to 0.14 dB, SSIM by 0.0015,
sizes by 0.2 % and losses of formats by 0.004 dB (at 243a770).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recon.capture import load_capture
from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig
from recon.errors import InputError
from recon.files import temporary_folder
from recon.formats import load_gaussians, save_gaussians
from recon.model.registry import build_model
from recon.pipeline import reconstruct_views
from recon.reporting import note, say
from training.benchmark_report.captures import ROOT, Captures
from training.benchmark_report.record import rounded
from training.evaluation.captures import EvaluateConfig, context_and_targets, evaluate_case
from training.evaluation.methods import recon_method
from training.evaluation.scoring import mean_psnr
from training.evaluation.suite import Case, read_split
from training.programs import check_outputs, program, write_numbers

FILE = ROOT / "tests" / "golden" / "metrics.json"
SIDE_PX = 256
# Splits of captures that ship with the project, and the methods that are measured on them.
CASES = {
    ("city", "dense"): ("recon",),
    ("chair", "dense"): ("recon",),
    ("sample", "every 4"): ("recon", "network"),
    ("sample", "sector 0.25"): ("recon",),
    ("sample", "2v"): ("recon", "plane-sweep"),
    ("procedural 6", "every 4"): ("recon", "network"),
}
STORED = (".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb")


@dataclass(frozen=True)
class Kind:
    """How numbers of one kind are compared."""

    lower_is_better: bool
    absolute: float = 0.0
    """Difference to the worse that is no fall, in the unit of the number."""
    relative: float = 0.0
    """The same, relative to the stored number."""

    def limit(self, stored: float) -> float:
        """Return the worst number that passes."""
        slack = self.absolute + self.relative * abs(stored)
        return stored + slack if self.lower_is_better else stored - slack


KINDS: Mapping[str, Kind] = {
    "PSNR": Kind(False, absolute=0.3),
    "SSIM": Kind(False, absolute=0.005),
    "bytes": Kind(True, relative=0.01),
    "dB lost": Kind(True, absolute=0.015),
}
"""Kinds of numbers by the unit with which their names end."""


def measure() -> dict[str, float]:
    """Measure all numbers of the gate; names end with one of `KINDS`."""
    with temporary_folder() as folder:
        captures = Captures(None, folder)
        found: dict[str, float] = {}
        for (capture, split), methods in CASES.items():
            found |= _quality(Case(captures.find(capture), split), methods)
        found |= _files(Case(captures.find("sample"), "2v"), folder)
    return {name: rounded(value) for name, value in found.items()}


def _config(method: str) -> ReconstructConfig:
    views = ViewConfig(resolution=SIDE_PX)
    if method == "recon":
        return ReconstructConfig(views)
    model = ReconstructConfig.model if method == "network" else method
    return ReconstructConfig(views, model=model, optimise=OptimiseConfig(steps=0))


def _quality(case: Case, methods: Sequence[str]) -> dict[str, float]:
    made = {method: recon_method(_config(method)) for method in methods}
    result = evaluate_case(case, made, EvaluateConfig(SIDE_PX), {})
    found = {}
    for method in methods:
        for metric in ("psnr", "ssim"):
            value = result.mean(method, metric)
            assert value is not None
            found[f"{case.name}, {method}: {metric.upper()}"] = value
    return found


def _files(case: Case, folder: Path) -> dict[str, float]:
    """Return the size of a scene in every format, and the PSNR that it loses there."""
    split = read_split(load_capture(case.capture), case.split)
    context, targets = context_and_targets(split, SIDE_PX)
    config = _config("recon")
    scene = reconstruct_views(context, build_model(config.model), config).gaussians
    whole, found = mean_psnr(scene, targets), {}
    for suffix in STORED:
        path = folder / f"scene{suffix}"
        save_gaussians(path, scene)
        found[f"{case.name}, {suffix}: bytes"] = float(path.stat().st_size)
        found[f"{case.name}, {suffix}: dB lost"] = whole - mean_psnr(load_gaussians(path), targets)
    return found


def falls(stored: Mapping[str, float], measured: Mapping[str, float]) -> list[str]:
    """Return a line for every number that became worse, or is no longer measured."""
    lines = []
    for name, value in stored.items():
        kind = KINDS[name.rpartition(": ")[2]]
        limit = kind.limit(value)
        if name not in measured:
            lines.append(f"{name}: {value:g} is stored, but it was not measured")
        elif (measured[name] > limit) if kind.lower_is_better else (measured[name] < limit):
            worst = "at most" if kind.lower_is_better else "at least"
            lines.append(
                f"{name}: {measured[name]:g}, expected {worst} {limit:g} (stored: {value:g})"
            )
    return lines


def read_stored(path: Path | None = None) -> dict[str, float]:
    """Read the stored numbers.

    Raises:
        InputError: There are none, or a number of no known kind.
    """
    path = path or FILE
    try:
        stored: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); make it with --write") from error
    unknown = [name for name in stored if name.rpartition(": ")[2] not in KINDS]
    if unknown:
        raise InputError(f"{path}: {unknown[0]!r} must end with one of {', '.join(KINDS)}")
    return stored


@program
def main(words: Sequence[str] | None = None) -> None:
    """Measure, and compare or store."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"store in {FILE.name}")
    options = parser.parse_args(words)
    if options.write:
        check_outputs(FILE)
    else:
        read_stored()  # before the measurements, which take minutes
    measured = measure()
    if options.write:
        write_numbers(measured, FILE)
    for name, value in measured.items():
        say(f"{name}: {value:g}")
    lines = falls(read_stored(), measured)
    for line in lines:
        note(f"worse: {line}")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
