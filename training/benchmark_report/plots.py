"""Plots of a benchmark, made from its JSON alone.

A PNG file carries a hash of the numbers that it draws, by which a test knows that it is up to date.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from recon.files import atomic_output
from training.benchmark_report.tables import Document, entries, kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FOLDER = "benchmark"
DPI, PANEL_IN = 80, (4.6, 3.2)
SIZES_MB = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
# Key of the hash in the file, one of those that PNG defines.
HASH = "Source"
Points = dict[str, list[tuple[Any, float]]]
Panels = dict[str, Points]
"""Points by name of their series, by title of the panel."""


def write_plots(document: Document, docs: Path) -> None:
    """Write all plots whose numbers were measured into a folder."""
    (docs / FOLDER).mkdir(exist_ok=True)
    for name, (panels_of, draw) in PLOTS.items():
        panels = panels_of(document)
        if panels:
            _save(draw(panels), docs / FOLDER / f"{name}.png", digest(panels))


def digest(panels: Panels) -> str:
    """Return a hash of the numbers of a plot."""
    return hashlib.sha256(json.dumps(panels).encode()).hexdigest()


def drawn(path: Path) -> str:
    """Return the hash of the numbers that a file draws; "" if it has none."""
    with Image.open(path) as image:
        return str(image.info.get(HASH, ""))


def _save(figure: "Figure", path: Path, source: str) -> None:
    with atomic_output(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={HASH: source})


def quality_panels(document: Document) -> Panels:
    """Return PSNR by capture and method, one panel for each kind of hold-out."""
    panels: Panels = {}
    for (capture, split), entry in entries(document, "quality").items():
        panel = panels.setdefault(f"hold-out: {kind_of(split)}", {})
        for method, scores in entry["mean"].items():
            panel.setdefault(method, []).append((capture, scores["psnr"]))
    return panels


def equal_time_panels(document: Document) -> Panels:
    """Return PSNR of recon and the baseline over time, one panel for each capture."""
    panels: Panels = {}
    for (capture, split, _), entry in entries(document, "equal time").items():
        panel = panels.setdefault(f"{capture} {split}", {})
        for key, name in {"recon": "recon", "baseline": "3DGS-MCMC"}.items():
            panel.setdefault(name, []).append((entry["budget"], entry[key]["psnr"]))
    return panels


def photos_panels(document: Document) -> Panels:
    """Return time, processor time and peak memory by number of photos."""
    panels: Panels = {}
    for (capture, count), entry in entries(document, "photos").items():
        for title, value in {
            "time, s": entry["seconds"],
            "processor time, s": entry["processor_seconds"],
            "memory, GB": entry["peak_bytes"] / 1e9,
        }.items():
            panels.setdefault(title, {}).setdefault(capture, []).append((int(count), value))
    return panels


def files_panels(document: Document) -> Panels:
    """Return PSNR by size of the file, one panel for each capture and a series for each format."""
    return {
        f"{capture} {split}": {
            row["name"]: [(row["bytes"] / 1e6, row["psnr"])] for row in entry["rows"]
        }
        for (capture, split), entry in entries(document, "files").items()
    }


def _figure(panels: Panels, columns: int) -> tuple["Figure", list["Axes"]]:
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL_IN[0] * columns, PANEL_IN[1] * rows)
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[len(panels) :]:
        unused.set_axis_off()
    for title, each in zip(panels, axes, strict=False):
        each.set_title(title, fontsize="medium")
        each.grid(alpha=0.3)
    return figure, axes


def draw_quality(panels: Panels) -> "Figure":
    """Draw a point for each capture and method."""
    figure, axes = _figure(panels, 2)
    numbers = _numbers(panels)
    for axis, series in zip(axes, panels.values(), strict=False):
        for method, points in series.items():
            captures, values = zip(*points, strict=True)
            style = f"C{numbers[method]}{'os^Dv'[numbers[method]]}"
            axis.plot(values, captures, style, label=method, markersize=6)
        axis.set_xlabel("held-out PSNR, dB")
        axis.invert_yaxis()
    _legend(figure)
    return figure


def draw_lines(panels: Panels, x_label: str, y_label: str) -> "Figure":
    """Draw a line for each series over a logarithmic axis with ticks at the points."""
    figure, axes = _figure(panels, 3)
    numbers = _numbers(panels)
    for axis, series in zip(axes, panels.values(), strict=False):
        for name, points in series.items():
            style = f"C{numbers[name]}{('o-', 's--', '^:')[numbers[name]]}"
            axis.plot(*zip(*sorted(points), strict=True), style, label=name)
        ticks = sorted({x for points in series.values() for x, _ in points})
        axis.set_xscale("log")
        axis.set_xticks(ticks, [f"{x:g}" for x in ticks])
        axis.minorticks_off()
        axis.margins(0.15)
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    _legend(figure)
    return figure


def draw_photos(panels: Panels) -> "Figure":
    """Draw time and memory over the number of photos, from zero."""
    figure = draw_lines(panels, "number of photos", "")
    for axis in figure.axes:
        axis.set_ylim(bottom=0)
    return figure


def draw_files(panels: Panels) -> "Figure":
    """Draw a labelled point for each file."""
    figure, axes = _figure(panels, 3)
    numbers = _numbers(panels)
    for axis, series in zip(axes, panels.values(), strict=False):
        for name, points in series.items():
            axis.plot(*zip(*points, strict=True), f"C{numbers[name]}o", label=name)
        axis.set_xscale("log")
        sizes = [x for points in series.values() for x, _ in points]
        ticks = [size for size in SIZES_MB if min(sizes) / 2 < size < max(sizes) * 2]
        axis.set_xticks(ticks, [f"{size:g}" for size in ticks])
        axis.minorticks_off()
        axis.set_xlabel("MB")
        axis.set_ylabel("held-out PSNR, dB")
        axis.margins(0.15)
    _legend(figure)
    return figure


def _numbers(panels: Panels) -> dict[str, int]:
    """Number the series, so that each looks the same in all panels, whichever they have."""
    names = dict.fromkeys(name for series in panels.values() for name in series)
    return {name: i for i, name in enumerate(names)}


def _legend(figure: "Figure") -> None:
    """Explain the series of all panels."""
    handles: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        list(handles.values()), list(handles), loc="outside upper center",
        ncols=min(len(handles), 4), fontsize="small",
    )  # fmt: skip


PLOTS: Mapping[str, tuple[Callable[[Document], Panels], Callable[[Panels], "Figure"]]] = {
    "quality": (quality_panels, draw_quality),
    "equal_time": (
        equal_time_panels,
        lambda panels: draw_lines(panels, "total time, s", "held-out PSNR, dB"),
    ),
    "photos": (photos_panels, draw_photos),
    "files": (files_panels, draw_files),
}
