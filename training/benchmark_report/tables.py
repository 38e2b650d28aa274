"""Tables of a benchmark's page, from its JSON."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from training.programs import table_lines

Document = Mapping[str, Any]
Entries = dict[tuple[str, ...], dict[str, Any]]
# Names of metrics as heads of columns, and their number of decimals.
METRICS = {
    "psnr": ("PSNR", 2),
    "psnr_exposure_fitted": ("exp. PSNR", 2),
    "ssim": ("SSIM", 3),
    "st_lpips": ("ST-LPIPS", 3),
    "lpips": ("LPIPS", 3),
}
# Kinds of hold-outs, and how names of their splits begin.
KINDS = {
    "2 photos": ("2v",), "4 photos": ("3v", "4v"), "every n-th": ("dense", "every"),
    "sector": ("sector",),
}  # fmt: skip
MISSING = "n/a"


def entries(document: Document, section: str) -> Entries:
    """Return the results of a section by the rest of their keys."""
    keys = {key: tuple(key.split("/")) for key in document["results"]}
    return {
        parts[1:]: document["results"][key] for key, parts in keys.items() if parts[0] == section
    }


def kind_of(split: str) -> str:
    """Return the kind of hold-out of a split; its own name if it is none of `KINDS`."""
    return next((kind for kind, heads in KINDS.items() if split.startswith(heads)), split)


def number(value: float | None, decimals: int) -> str:
    """Return a number as text, or that it is missing."""
    return MISSING if value is None else f"{value:,.{decimals}f}"


def with_error(values: Sequence[float | None], decimals: int) -> str:
    """Return the mean and its standard error, of which one value has none."""
    known = [value for value in values if value is not None]
    if not known:
        return MISSING
    mean = number(statistics.fmean(known), decimals)
    if len(known) == 1:
        return mean
    return f"{mean} ± {number(statistics.stdev(known) / math.sqrt(len(known)), decimals)}"


def summary(document: Document) -> list[str]:
    """Return mean and standard error over captures by kind of hold-out and method."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for (_, split), entry in entries(document, "quality").items():
        groups.setdefault(kind_of(split), []).append(entry["mean"])
    shown = shown_metrics(document)
    rows = []
    for kind, means in groups.items():
        for method in means[0]:
            cells = [
                with_error([each[method][metric] for each in means], METRICS[metric][1])
                for metric in shown
            ]
            rows.append([kind, str(len(means)), method, *cells])
    return table_lines(["hold-out", "captures", "method", *(METRICS[m][0] for m in shown)], rows)


def shown_metrics(document: Document) -> list[str]:
    """Return the metrics with columns: one perceptual one, as far as this machine had one."""
    return ["psnr", "ssim", *([document["perceptual"]] if document["perceptual"] else [])]


def quality(document: Document) -> list[str]:
    """Return the scores of recon for each capture and split, and the PSNR of the others."""
    found = entries(document, "quality")
    shown = ["psnr", "psnr_exposure_fitted", *shown_metrics(document)[1:]]
    others = [*dict.fromkeys(name for entry in found.values() for name in entry["mean"])][1:]
    rows = []
    for (capture, split), entry in found.items():
        scores = entry["mean"]["recon"]
        rows.append(
            [capture, split, str(entry["photos"]), str(entry["held_out"])]
            + [number(scores[metric], METRICS[metric][1]) for metric in shown]
            + [number(entry["mean"].get(name, {}).get("psnr"), 2) for name in others]
        )
    head = ["capture", "split", "photos", "held out", *(METRICS[m][0] for m in shown)]
    return table_lines([*head, *(f"PSNR {name}" for name in others)], rows)


def equal_time(document: Document) -> list[str]:
    """Return PSNR and steps of recon and the baseline after the same times, and mean gains."""
    found = entries(document, "equal time")
    rows, gains = [], dict[float, list[float]]()
    for (capture, split, _), entry in found.items():
        ours, theirs = entry["recon"], entry["baseline"]
        gains.setdefault(entry["budget"], []).append(ours["psnr"] - theirs["psnr"])
        cells = [f"{number(each['psnr'], 2)} ({each['steps']})" for each in (ours, theirs)]
        gain = f"{ours['psnr'] - theirs['psnr']:+.2f}"
        rows.append([capture, split, f"{entry['budget']:g}", number(entry["seconds"], 0)])
        rows[-1] += [*cells, gain]
    for budget, values in gains.items():
        if len(values) > 1:
            rows.append(["mean", "", f"{budget:g}", "", "", "", with_error(values, 2)])
    return table_lines(["capture", "split", "budget, s", "taken, s", "recon", "MCMC", "gain"], rows)


def photos(document: Document) -> list[str]:
    """Return time and memory of the command by number of photos."""
    head = ["capture", "photos", "Gaussians", "MB", "time, s", "processor time, s", "memory, GB"]
    return table_lines(
        head,
        [
            [
                capture, count, f"{entry['gaussians']:,}", number(entry["megabytes"], 1),
                number(entry["seconds"], 1), number(entry["processor_seconds"], 1),
                number(entry["peak_bytes"] / 1e9, 2),
            ]
            for (capture, count), entry in entries(document, "photos").items()
        ],
    )  # fmt: skip


def poses(document: Document) -> list[str]:
    """Return errors of solved cameras."""
    head = ["capture", "registered", "rotation error, deg", "translation error, %"]
    rows = []
    for (capture,), entry in entries(document, "poses").items():
        moved = entry["translation"]
        rows.append(
            [
                capture, f"{entry['registered']} of {entry['photos']}",
                number(entry["rotation_deg"], 2), number(None if moved is None else 100 * moved, 2),
                *(number(value, 2) for value in entry["auc"].values()),
                number(entry["seconds"], 0),
            ]
        )  # fmt: skip
    limits = next(iter(entries(document, "poses").values()))["auc"]
    return table_lines([*head, *(f"AUC@{limit}" for limit in limits), "s"], rows)


def files(document: Document) -> list[str]:
    """Return size and held-out PSNR of scenes in every format."""
    rows = []
    for (capture, split), entry in entries(document, "files").items():
        for row in entry["rows"]:
            rows.append(
                [
                    capture, split, f"`{row['name']}`", f"{row['gaussians']:,}",
                    number(row["bytes"] / 1e6, 2), number(row["psnr"], 2),
                    number(row["encode_s"], 1), number(row["decode_s"], 1),
                ]
            )  # fmt: skip
    head = ["capture", "split", "file", "Gaussians", "MB", "PSNR", "written in, s", "read in, s"]
    return table_lines(head, rows)


def raster(document: Document) -> list[str]:
    """Return times of the rasterizer."""
    rows = [
        [
            row["scene"], f"{row['gaussians']:,}", number(row["pairs"] / 1e6, 2),
            str(row["sh_degree"]), str(row["threads"]), number(row["forward"]["wall_ms"], 1),
            number(row["forward_backward"]["wall_ms"], 1),
            number(row["forward_backward"]["cpu_ms"], 1), number(row["ns_per_pair"], 1),
        ]
        for row in document["results"]["raster"]["rows"]
    ]  # fmt: skip
    head = ["scene", "Gaussians", "pairs, M", "SH", "threads", "forward, ms"]
    return table_lines([*head, "forward+backward, ms", "processor ms", "ns per pair"], rows)


def networks(document: Document) -> list[str]:
    """Return times of networks."""
    rows = [
        [
            f"{row['network']} {row['size']}", number(row["parameters"] / 1e6, 1),
            f"{row['views']}, {row['side']}", number(row["gflops"], 0),
            number(row["inference_ms"], 0), f"{row['inference_utilisation']:.0%}",
            number(row["training_samples_per_s"], 2), f"{row['training_utilisation']:.0%}",
        ]
        for row in document["results"]["networks"]["rows"]
    ]  # fmt: skip
    head = ["network", "parameters, M", "views, px", "GFLOP", "inference, ms", "utilisation"]
    return table_lines([*head, "training samples/s", "utilisation"], rows)
