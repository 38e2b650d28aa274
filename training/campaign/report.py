"""Files about a campaign, derived from those of its stages: metrics.jsonl and loss curves."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from recon.files import atomic_output
from training.campaign.recipe import Recipe
from training.losses import PSNR, TOTAL
from training.metrics_logger import METRICS

PLOT = "losses.png"
WIDTH_PX, HEIGHT_PX, MARGIN_PX = 900, 220, 60
# Number of points of the smoothed curve.
SMOOTH_POINTS = 60
Points = Sequence[tuple[float, float]]


def write_report(recipe: Recipe, scores: Sequence[dict[str, Any]] = ()) -> None:
    """Write metrics.jsonl of the campaign, and losses.png with a curve for each loss.

    Args:
        recipe: The campaign.
        scores: Rows of scores.jsonl, for a curve of their own.
    """
    rows = read_metrics(recipe)
    if not rows:
        return
    with atomic_output(recipe.out / METRICS) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))
    curves = {
        name: [(float(row["scenes"]), float(row[name])) for row in rows if name in row]
        for name in (TOTAL, "depth", PSNR)
    }
    means = [(float(row["scenes"]), sum(row["psnr"].values()) / len(row["psnr"])) for row in scores]
    curves["development PSNR"] = [point for point in means if math.isfinite(point[1])]
    ends, seen = [], 0
    for stage in recipe.stages:
        seen += stage.scenes
        ends.append(seen)
    with atomic_output(recipe.out / PLOT) as temporary:
        draw_curves({name: points for name, points in curves.items() if points}, ends).save(
            temporary
        )


def read_metrics(recipe: Recipe) -> list[dict[str, Any]]:
    """Read the metrics of all stages, with `stage` and `scenes`, the number of scenes so far."""
    rows = []
    for stage in recipe.stages:
        before = recipe.scenes_before(stage)
        for row in _rows(stage.folder / METRICS):
            seen = before + row["step"] * stage.config.dataset.batch
            rows.append({"stage": stage.name, "scenes": seen, **row})
    return rows


def _rows(path: Path) -> list[dict[str, Any]]:
    """Read a stage's metrics; a run that was killed repeats steps, and the last row counts."""
    rows: list[dict[str, Any]] = []
    for line in path.read_text().splitlines() if path.is_file() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:  # killed while it wrote
            continue
        while rows and rows[-1]["step"] >= row["step"]:
            rows.pop()
        # Neither a plot nor JSON can have losses that are not finite.
        rows.append({key: value for key, value in row.items() if math.isfinite(value)})
    return rows


def draw_curves(curves: dict[str, Points], ends: Sequence[int] = ()) -> Image.Image:
    """Draw one panel per curve over the number of scenes: the points in grey, their means in blue.

    Args:
        curves: Points (scenes, value) by title.
        ends: Numbers of scenes at which stages end, drawn as vertical lines.
    """
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX * len(curves)), "white")
    draw = ImageDraw.Draw(image)
    last = max(x for points in curves.values() for x, _ in points)
    for index, (title, points) in enumerate(curves.items()):
        _draw_panel(draw, index * HEIGHT_PX, title, points, [e for e in ends if e < last], last)
    return image


def _draw_panel(
    draw: ImageDraw.ImageDraw, top: int, title: str, points: Points, ends: list[int], last: float
) -> None:
    values = sorted(y for _, y in points)
    # Rare outliers do not set the scale.
    low, high = values[len(values) // 50], values[-1 - len(values) // 50]
    span = high - low or 1.0
    left, right, upper, lower = MARGIN_PX, WIDTH_PX - 20, top + 25, top + HEIGHT_PX - 30

    def position(x: float, y: float) -> tuple[float, float]:
        fraction = min(max((y - low) / span, 0.0), 1.0)
        return left + x / max(last, 1) * (right - left), lower - fraction * (lower - upper)

    draw.rectangle((left, upper, right, lower), outline="black")
    draw.text((left, top + 8), title, fill="black")
    for value in (low, low + span / 2, low + span):
        draw.text((5, position(0.0, value)[1] - 6), f"{value:.4g}", fill="black")
    for end in ends:
        x = position(float(end), low)[0]
        draw.line((x, upper, x, lower), fill="lightgrey")
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        x = position(fraction * last, low)[0]
        draw.text((x - 15, lower + 5), f"{fraction * last:,.0f}", fill="black")
    draw.line([position(x, y) for x, y in points], fill="silver")
    draw.line([position(x, y) for x, y in _smoothed(points)], fill="blue", width=2)


def _smoothed(points: Points) -> list[tuple[float, float]]:
    """Return the means of consecutive groups of points."""
    size = max(1, len(points) // SMOOTH_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [tuple(sum(axis) / len(group) for axis in zip(*group, strict=True)) for group in groups]
