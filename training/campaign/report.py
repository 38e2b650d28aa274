"""Files about a campaign, derived from those of its stages: metrics.jsonl and plots."""

import json
from pathlib import Path
from typing import Any

from recon.files import atomic_output
from training.campaign.recipe import Recipe
from training.metrics_logger import METRICS


def write_metrics(recipe: Recipe) -> None:
    """Write metrics.jsonl of the campaign."""
    rows = read_metrics(recipe)
    with atomic_output(recipe.out / METRICS) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_metrics(recipe: Recipe) -> list[dict[str, Any]]:
    """Read the metrics of all stages, with `stage` and `scenes`, the number of scenes so far."""
    rows, scenes = [], 0
    for stage in recipe.stages:
        for row in _rows(stage.folder / METRICS):
            seen = scenes + row["step"] * stage.config.dataset.batch
            rows.append({"stage": stage.name, "scenes": seen, **row})
        scenes += stage.scenes
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
        rows.append(row)
    return rows
