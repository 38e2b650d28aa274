"""Results as a table and as images."""

from collections.abc import Sequence
from pathlib import Path

import torch

from render.video import write_image
from training.evaluation.scoring import METRICS, NEAREST_PHOTO, CaseResult, Scores, mean_or_none

_HEADS = {
    "psnr": "PSNR",
    "psnr_exposure_fitted": "exp. PSNR",
    "ssim": "SSIM",
    "st_lpips": "ST-LPIPS",
    "lpips": "LPIPS",
}
MISSING = "n/a"


def as_table(results: Sequence[CaseResult]) -> str:
    """Return a Markdown table of scores.

    One case has a row per target and method, and the mean of several targets; several cases have
    their means, and the means over all of them by split. Clips of a test set have only its mean.
    LPIPS is left out where its weights are missing.
    """
    rows = [["capture", "split", "target", "method", *_HEADS.values()]]
    captures = [result for result in results if not result.suite]
    for result in captures:
        head = [result.case.capture.name, result.case.split]
        for method, targets in result.scores.items():
            if len(results) == 1:
                for name, scores in targets.items():
                    rows.append([*head, name, method, *_numbers(scores)])
            if len(results) > 1 or len(targets) > 1:
                means = {metric: result.mean(method, metric) for metric in METRICS}
                rows.append([*head, "mean", method, *_numbers(means)])
    groups = {split: [r for r in captures if r.case.split == split] for split in _splits(captures)}
    for split, group in groups.items():
        if len(group) > 1:
            rows += _mean_rows(f"all {len(group)}", split, group)
    for suite in dict.fromkeys(result.suite for result in results if result.suite):
        group = [result for result in results if result.suite == suite]
        rows += _mean_rows(f"{suite}, {len(group)} scenes", "index", group)
    if all(row[-1] == MISSING for row in rows[1:]):
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _splits(results: Sequence[CaseResult]) -> list[str]:
    return list(dict.fromkeys(result.case.split for result in results))


def _mean_rows(name: str, split: str, results: Sequence[CaseResult]) -> list[list[str]]:
    """Return a row per method: the mean over scenes of their means over targets."""
    rows = []
    for method in results[0].scores:
        means = {
            metric: mean_or_none([result.mean(method, metric) for result in results])
            for metric in METRICS
        }
        rows.append([name, split, "mean", method, *_numbers(means)])
    return rows


def _numbers(scores: Scores) -> list[str]:
    digits = {"psnr": 2, "psnr_exposure_fitted": 2}
    return [
        MISSING if scores[metric] is None else f"{scores[metric]:.{digits.get(metric, 3)}f}"
        for metric in METRICS
    ]


def write_images(folder: Path, results: Sequence[CaseResult]) -> None:
    """Write an image per target: the renders of all methods and the photo, side by side."""
    folder.mkdir(parents=True)
    for result in results:
        if not result.images:
            continue
        columns = [images for name, images in result.images.items() if name != NEAREST_PHOTO]
        for i, target in enumerate(result.scores[result.method]):
            row = torch.cat([column[i] for column in columns], -1)
            name = f"{result.case.capture.name}_{result.case.split}_{Path(target).stem}.png"
            write_image(folder / name, row)
