"""Cost of networks over the number of views: operations, memory and time of a forward pass.

    python -m training.benchmarks.views --json views.json --plot views.png

Each pass runs in a process of its own, whose peak memory counts less that before the pass. Passes
of more operations than `--max-tflop` are counted and not run.
"""

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from recon.files import atomic_output
from recon.model.inference import run_network
from recon.model.registry import build_network, named_size
from recon.overlay import overlay
from recon.reporting import say
from training.benchmarks.model import ModelCase, noise_batch
from training.programs import check_outputs, program, write_numbers

VIEWS = (2, 4, 8, 16, 32, 64)
# Networks of about a million parameters, by label, with changes of their configuration.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gs-lrm": ("gs-lrm", {}),
    "pose-free": ("pose-free", {}),
    "long-lrm": ("long-lrm", {}),
    "long-lrm, 8 anchors": ("long-lrm", {"anchors": 8}),
}


Row = dict[str, Any]


def measure(network: str, changes: dict[str, Any], views: int, side: int, max_flop: float) -> Row:
    """Run a forward pass of a network's tiny size over one scene, on one thread.

    Returns:
        Operations (GFLOP) and, if the pass was run, its peak memory above that before it (MB) and
        its processor time (s).
    """
    torch.set_num_threads(1)
    torch.manual_seed(0)
    built = build_network(network, overlay(named_size(network, "tiny"), changes, "changes")).eval()
    count: Callable[[int, int, int], int] = built.flops  # type: ignore[assignment]
    row: Row = {"views": views, "gflop": count(views, side, side) / 1e9}
    if 1e9 * row["gflop"] > max_flop:
        return row
    batch = noise_batch(ModelCase(network, "tiny", views, side), 1, "cpu").context
    before, start = _peak_mb(), time.process_time()
    with torch.no_grad():
        run_network(built, batch)
    cpu_s = time.process_time() - start
    # The kernel's count is approximate: it may even fall by a few pages.
    return row | {"cpu_s": cpu_s, "mb": max(0.0, _peak_mb() - before)}


def _peak_mb() -> float:
    """Return the most memory that this process has had so far (MB)."""
    status = Path("/proc/self/status")
    if status.exists():  # the other count begins with that of the process that started this one
        lines = status.read_text().splitlines()
        return next(int(x.split()[1]) / 1024 for x in lines if x.startswith("VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_all(views: Sequence[int], side: int, max_flop: float) -> dict[str, list[Row]]:
    """Measure all networks, each pass in a process of its own; return rows by label."""
    found: dict[str, list[Row]] = {}
    for label, (network, changes) in CASES.items():
        for count in views:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                row = pool.submit(measure, network, changes, count, side, max_flop).result()
            found.setdefault(label, []).append(row)
            measured = f"  {row['mb']:8.0f} MB  {row['cpu_s']:7.1f} s" if "mb" in row else ""
            say(f"{label:20}  {count:3} views  {row['gflop']:9.1f} GFLOP{measured}")
    return found


def plot(rows: dict[str, list[Row]], path: Path) -> None:
    """Plot operations and memory over the number of views, both axes logarithmic."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, title in zip(
        axes, ("gflop", "mb"), ("operations (GFLOP)", "peak memory (MB)"), strict=True
    ):
        for label, entries in rows.items():
            known = [(row["views"], row[key]) for row in entries if key in row]
            axis.plot(*zip(*known, strict=True), marker="o", label=label)
        first = next(iter(rows.values()))
        views = [row["views"] for row in first]
        start = first[0][key] / views[0]
        axis.plot(views, [start * count for count in views], "k:", lw=1, label="linear")
        axis.set(xscale="log", yscale="log", xlabel="views", ylabel=title)
        axis.set_xticks(views, [str(count) for count in views])
        axis.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    plt.close(figure)


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print all rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--views", type=int, nargs="+", default=VIEWS)
    parser.add_argument("--side", type=int, default=256, help="side of the images (px)")
    parser.add_argument("--max-tflop", type=float, default=10.0)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--plot", type=Path, help="image to write")
    options = parser.parse_args(arguments)
    check_outputs(options.json, options.plot)
    rows = measure_all(options.views, options.side, 1e12 * options.max_tflop)
    write_numbers(rows, options.json)
    if options.plot is not None:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
