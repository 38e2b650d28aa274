"""The solver's stages, each in a process of its own with a limit of time."""

import json
import subprocess
from pathlib import Path

from recon.capture.scripts import run_script
from recon.capture.solve.prepare import SOLVE_PX, Prepared
from recon.capture.types import StageProgress
from recon.errors import ReconError

SCRIPT = "sfm.py"
# Limits (s): a part for all, and one for each photo or pair of photos.
LIMITS = {"features": (60.0, 20.0), "match": (60.0, 6.0), "map": (120.0, 30.0)}
LENS = "SIMPLE_RADIAL"
WORDS = {
    "features": "finding features",
    "match": "matching photos",
    "map": "placing cameras",
}
# The mapper is told to stop a little earlier than it is stopped.
MAP_SHARE = 0.25


def solve(prepared: Prepared, work: Path, seed: int, report: StageProgress) -> int:
    """Run the stages; how many photos were placed. The model of two or more is in work/model."""
    count = len(prepared.originals)
    job = {
        "images": str(prepared.folder),
        "database": str(work / "database.db"),
        "groups": prepared.groups,
        "originals": prepared.originals,
        "max_size": SOLVE_PX,
        "lens": LENS,
        "seed": seed,
        "map_seconds": int(MAP_SHARE * limit_s("map", count)),
        "model": str(work / "model"),
        "summary": str(work / "summary.json"),
    }
    path = work / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    for number, stage in enumerate(LIMITS):
        report(WORDS[stage], number / len(LIMITS))
        _run(stage, path, limit_s(stage, count))
    return json.loads((work / "summary.json").read_text(encoding="utf-8"))["placed"]


def limit_s(stage: str, photos: int) -> float:
    """How long a stage may take for so many photos."""
    base, each = LIMITS[stage]
    return base + each * (photos * (photos - 1) / 2 if stage == "match" else photos)


def _run(stage: str, job: Path, limit: float) -> None:
    try:
        reason = run_script(SCRIPT, [stage, str(job)], limit)
    except subprocess.TimeoutExpired as error:
        raise ReconError(
            f"{WORDS[stage]} took over {limit:.0f} s, the limit for these photos; use fewer or "
            "smaller photos, or give their cameras (a COLMAP project or a transforms.json)"
        ) from error
    if reason is not None:
        raise ReconError(
            f"{WORDS[stage]} failed: {reason}; try other photos, or give their cameras "
            "(a COLMAP project or a transforms.json)"
        )
