"""Results as a table and as pictures."""

from collections.abc import Sequence
from pathlib import Path

import torch

from render.video import write_image
from training.evaluation.reconstruction import METRICS, CaseResult

_HEADS = {
    "psnr": "PSNR",
    "psnr_exposure_fitted": "exp. PSNR",
    "ssim": "SSIM",
    "st_lpips": "ST-LPIPS",
}


def as_table(results: Sequence[CaseResult]) -> str:
    """A Markdown table: a row per target and the mean, or means only for many cases; then the
    means over all of them. Scenes of a test set count in its mean only."""
    rows = [["capture", "split", "target", "method", *_HEADS.values()]]
    alone = [result for result in results if not result.suite]
    for result in alone:
        head = [result.case.capture.name, result.case.split]
        for method, targets in result.scores.items():
            if len(results) == 1:
                for name, scores in targets.items():
                    rows.append([*head, name, method, *_numbers(scores)])
            means = {metric: result.mean(method, metric) for metric in METRICS}
            rows.append([*head, "mean", method, *_numbers(means)])
    groups = {split: [r for r in alone if r.case.split == split] for split in _splits(alone)}
    for split, group in groups.items():
        if len(group) > 1:
            rows += _mean_rows(f"all {len(group)}", split, group)
    for suite in dict.fromkeys(result.suite for result in results if result.suite):
        group = [result for result in results if result.suite == suite]
        rows += _mean_rows(f"{suite}, {len(group)} scenes", "index", group)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [" | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-|-".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def _splits(results: Sequence[CaseResult]) -> list[str]:
    return list(dict.fromkeys(result.case.split for result in results))


def _mean_rows(name: str, split: str, results: Sequence[CaseResult]) -> list[list[str]]:
    """A row a method: the mean over scenes of their means over targets."""
    rows = []
    for method in results[0].scores:
        means = {}
        for metric in METRICS:
            values = [result.mean(method, metric) for result in results]
            known = [value for value in values if value is not None]
            means[metric] = sum(known) / len(known) if len(known) == len(values) else None
        rows.append([name, split, "mean", method, *_numbers(means)])
    return rows


def _numbers(scores: dict[str, float | None]) -> list[str]:
    digits = {"psnr": 2, "psnr_exposure_fitted": 2}
    return [
        "n/a" if scores[metric] is None else f"{scores[metric]:.{digits.get(metric, 3)}f}"
        for metric in METRICS
    ]


def write_pictures(folder: Path, results: Sequence[CaseResult]) -> None:
    """One picture per target: model, constant depth, photo side by side."""
    folder.mkdir(parents=True)
    for result in results:
        if not result.pictures:
            continue
        model = result.settings.model
        columns = [result.pictures[name] for name in (model, "constant depth", "photo")]
        for i, target in enumerate(result.scores[model]):
            row = torch.cat([column[i] for column in columns], -1)
            name = f"{result.case.capture.name}_{result.case.split}_{Path(target).stem}.png"
            write_image(folder / name, row)
