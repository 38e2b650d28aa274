"""gsplat against the reference: accuracy, the adapter's cost, times. See README.md here."""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]

from agreement import Agreement, agreement, crop_of_s1, degenerate_scene
from helpers import look_at_cameras, random_gaussians

from render import Cameras, Gaussians, RasterizeSettings
from training.benchmarks.raster import Case
from training.benchmarks.scenes import SCENES, optimised

MAX_OVERHEAD = 0.03


def cases() -> list[tuple[str, Gaussians, Cameras]]:
    """The scenes of the accuracy table."""
    generator = torch.Generator().manual_seed(0)
    found = [
        (
            f"random, SH {degree}",
            random_gaussians(200, generator, degree),
            look_at_cameras(2, 97, 71),
        )
        for degree in range(5)
    ]
    found += [(f"crop of s1, SH {degree}", *crop_of_s1(degree)) for degree in (0, 3)]
    return [*found, ("degenerate", *degenerate_scene(generator))]


def accuracy(backend: str, device: str) -> tuple[list[str], list[str]]:
    """Rows of the table, and what misses a bar."""
    rows, missed = [], []
    for name, scene, cameras in cases():
        for antialiased in (False, True):
            settings = RasterizeSettings(antialiased=antialiased)
            label = f"{name}, {'antialiased' if antialiased else 'classic'}"
            found: Agreement = agreement(scene, cameras, settings, backend=backend, device=device)
            rows.append(found.row(label))
            try:
                found.check()
            except AssertionError as error:
                missed.append(f"{label}: {error}")
    return rows, missed


def on_device(case: Case, device: str) -> Case:
    """The same case with its tensors moved."""
    return Case(case.scene.detach().to(device), case.cameras.to(device))


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median wall time, waiting for the GPU before and after."""
    wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    samples = []
    for repeat in range(repeats + 3):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if repeat >= 3:
            samples.append(time.perf_counter() - start)
    return statistics.median(samples)


def overhead(count: int, repeats: int) -> float:
    """How much longer `rasterize` takes than gsplat's own call, forward and backward."""
    import gsplat

    case = on_device(Case(*optimised(count, 960, 540, 3)), "cuda")
    scene, cameras = case.scene, case.cameras
    v_rgb = case.v_rgb.movedim(1, -1).contiguous()

    def raw() -> object:
        image, _, _ = gsplat.rasterization(
            scene.means, scene.quats, scene.scales, scene.opacities, scene.sh,
            cameras.viewmats, cameras.Ks, cameras.width, cameras.height,
            sh_degree=3, packed=False,
        )  # fmt: skip
        return torch.autograd.grad(image, case.inputs, v_rgb)

    ratios = []
    for _ in range(5):  # alternating, so that a drifting clock hits both
        plain = seconds(raw, "cuda", repeats)
        ratios.append(seconds(lambda: case.both("cuda"), "cuda", repeats) / plain)
    return statistics.median(ratios) - 1


def main() -> int:
    """Run every section; print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--scenes", nargs="*", default=list(SCENES))
    arguments = parser.parse_args()
    device, repeats = arguments.device, arguments.repeats
    results: dict[str, Any] = {"torch": torch.__version__, "device": device}
    rows, missed = accuracy(device, device)
    results["accuracy"] = rows
    if device == "cuda":
        import gsplat

        results |= {"gpu": torch.cuda.get_device_name(), "gsplat": gsplat.__version__}
        results["overhead"] = overhead(1_000_000, repeats)
        if results["overhead"] > MAX_OVERHEAD:
            missed.append(f"the adapter adds {results['overhead']:.1%}, bar {MAX_OVERHEAD:.0%}")
    for name in arguments.scenes:
        case = on_device(Case(*SCENES[name](0)), device)
        results[name] = {
            "forward_ms": 1e3 * seconds(lambda c=case: c.forward(device), device, repeats),
            "both_ms": 1e3 * seconds(lambda c=case: c.both(device), device, repeats),
        }
    results["missed"] = missed
    print(json.dumps(results, indent=1))  # noqa: T201
    if arguments.out is not None:
        temporary = arguments.out.with_suffix(".tmp")
        temporary.write_text(json.dumps(results, indent=1) + "\n")
        temporary.replace(arguments.out)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
