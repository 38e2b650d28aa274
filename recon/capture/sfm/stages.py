"""The solver's stages, each in a separate process with a time limit."""

import importlib.metadata
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recon.capture.isolated import run_script
from recon.capture.sfm.matching import count_processes, match_pairs
from recon.capture.sfm.outcome import Outcome
from recon.capture.sfm.prepare import SOLVE_LONG_SIDE_PX, PreparedImages
from recon.errors import InputError, counted, warn
from recon.files import WEIGHT_FOLDERS
from recon.reporting import shown_time
from recon.types import StageProgress

Matcher = Literal["sift", "aliked"]
CAMERA_MODEL = "SIMPLE_RADIAL"
# Learned matching takes several seconds per pair on a CPU core, and all pairs are matched: 120 for
# 16 photos.
MAX_PHOTOS_LEARNED = 16
# SIFT features per photo. The time to match all pairs is quadratic in the number of features,
# so that large captures get fewer.
MAX_FEATURES, LARGE_CAPTURE, MAX_FEATURES_LARGE = 8192, 24, 4096
# The mapper tries up to three settings in a row and may finish each within this fraction of its
# limit, before the process is stopped.
MAPPER_TIME_FRACTION = 0.25
# Time of mapping on an idle core (s): start-up, per photo, and per photo and photo since bundle
# adjustments of all photos get longer. Times on a busy machine are longer, by a limited factor
# since it does not stay busy (docs/experiments/many-photos.md).
MAPPING_SECONDS, MAX_SLOWDOWN = (2.0, 0.2, 0.003), 4.0
# Time in which ALIKED and LightGlue match a pair on two cores (s).
LEARNED_PAIR_SECONDS = 4.0
# The first release of kornia with ALIKED.
MIN_KORNIA = (0, 9)
WEIGHTS = "aliked_lightglue.safetensors"


@dataclass(frozen=True)
class Stage:
    """One call of a script."""

    description: str
    """What the stage does, for progress and error messages."""
    command: tuple[str, ...]
    """The script and its arguments before the job file."""
    limit: tuple[float, float, float]
    """Time limit in seconds: constant, per photo, per pair of photos that is matched."""

    def limit_s(self, photos: int, pairs: int) -> float:
        """Return the time limit for a number of photos and pairs (s)."""
        constant, per_photo, per_pair = self.limit
        return constant + per_photo * photos + per_pair * pairs


FEATURES = Stage("extracting features", ("sfm_matching.py", "features"), (60.0, 20.0, 0.0))
PAIRS = Stage("choosing pairs", ("sfm_pairs.py",), (120.0, 2.0, 0.0))
MATCHING = Stage("matching photos", ("sfm_matching.py", "match"), (60.0, 0.0, 2.0))
LEARNED = Stage("matching photos (ALIKED)", ("learned_matching.py",), (120.0, 20.0, 20.0))
IMPORT = Stage("verifying matches", ("sfm_matching.py", "import"), (60.0, 0.0, 6.0))
MAPPING = Stage("solving cameras", ("sfm_mapping.py",), (120.0, 30.0, 0.0))
STAGES: dict[Matcher, tuple[Stage, ...]] = {
    "sift": (FEATURES, PAIRS, MATCHING, MAPPING),
    "aliked": (LEARNED, IMPORT, MAPPING),
}


def available_matchers(photos: int) -> tuple[Matcher, ...]:
    """Return the matchers in the order in which they are tried until one is good enough."""
    return ("sift", "aliked") if photos <= MAX_PHOTOS_LEARNED and _has_kornia() else ("sift",)


def _has_kornia() -> bool:
    try:
        version = importlib.metadata.version("kornia")
    except importlib.metadata.PackageNotFoundError:
        return False
    numbers = re.match(r"(\d+)\.(\d+)", version)
    return numbers is not None and tuple(map(int, numbers.groups())) >= MIN_KORNIA


def run_sfm(
    prepared: PreparedImages,
    work: Path,
    seed: int,
    matchers: tuple[Matcher, ...],
    report: StageProgress,
) -> Outcome:
    """Try the matchers in order until one is good enough, and return the best outcome.

    Args:
        prepared: Copies of the photos.
        work: Empty folder for temporary files and the model.
        seed: Seed of all random numbers.
        matchers: At least one.
        report: Receives the stage and its progress.

    Raises:
        InputError: A stage failed or ran into its time limit.
    """
    best = None
    for matcher in matchers:
        try:
            outcome = _run_matcher(prepared, work / matcher, seed, matcher, report)
        except InputError:
            # The outcome of an earlier matcher is worth more than an error.
            if best is None or best.num_registered < 2:
                raise
            continue
        if best is None or outcome.is_better_than(best):
            best = outcome
        if best.featureless or best.is_good_enough(len(prepared.originals)):
            break
    assert best is not None
    return best


def _run_matcher(
    prepared: PreparedImages, work: Path, seed: int, matcher: Matcher, report: StageProgress
) -> Outcome:
    work.mkdir()
    count, stages = len(prepared.originals), STAGES[matcher]
    job = make_job(prepared, work, seed)
    path = work / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    summary, num_pairs, hint = work / "summary.json", count * (count - 1) // 2, ""
    if matcher == "aliked":
        seconds = LEARNED_PAIR_SECONDS * num_pairs * _slowdown(work.with_name("sift"))
        hint = f": {counted(num_pairs, 'pair')}, about {shown_time(seconds)}"
    for index, stage in enumerate(stages):
        report(stage.description + hint, index / len(stages))
        hint = ""
        try:
            _run_stage(stage, path, stage.limit_s(count, num_pairs))
        except InputError:
            # An attempt of the mapper that ended in time is worth more than an error.
            if not summary.is_file():
                raise
            warn(
                f"{stage.description} was stopped at its time limit; these are the best cameras "
                "until then, so use fewer or smaller photos"
            )
        if stage is PAIRS:
            plan = json.loads((work / "plan.json").read_text(encoding="utf-8"))
            if plan.pop("num_detailed") < 2:
                return Outcome(0, 0, 0, work / "model", featureless=True)
            num_pairs, hint = plan["num_pairs"], expected_time(**plan, photos=count)
    return Outcome.read(summary, work / "model")


def _slowdown(work: Path) -> float:
    """Return how many times longer than on an idle machine an earlier matcher took; 1 if none."""
    try:
        plan = json.loads((work / "plan.json").read_text(encoding="utf-8"))
        return min(float(plan["slowdown"]), MAX_SLOWDOWN)
    except (OSError, KeyError):
        return 1.0


def make_job(prepared: PreparedImages, work: Path, seed: int) -> dict[str, Any]:
    """Return what the scripts are told: their input, output and settings."""
    count = len(prepared.originals)
    return {
        "images": str(prepared.folder),
        "masks": None if prepared.masks is None else str(prepared.masks),
        "database": str(work / "database.db"),
        "keypoints": str(work / "keypoints.npz"),
        "weights": [str(folder / WEIGHTS) for folder in WEIGHT_FOLDERS],
        "groups": prepared.groups,
        "originals": prepared.originals,
        "max_size": SOLVE_LONG_SIDE_PX,
        "max_features": MAX_FEATURES_LARGE if count > LARGE_CAPTURE else MAX_FEATURES,
        "camera_model": CAMERA_MODEL,
        "seed": seed,
        "pairs": str(work / "pairs.txt"),
        "plan": str(work / "plan.json"),
        "map_seconds": int(MAPPER_TIME_FRACTION * MAPPING.limit_s(count, 0)),
        "model": str(work / "model"),
        "summary": str(work / "summary.json"),
    }


def expected_time(num_pairs: int, seconds: float, slowdown: float, photos: int) -> str:
    """Return how long matching and mapping take, to print after the stage.

    Args:
        num_pairs: Number of pairs to match.
        seconds: Time to match them in one process (s).
        slowdown: How many times longer than on an idle machine something takes.
        photos: Number of photos.
    """
    constant, linear, quadratic = MAPPING_SECONDS
    mapping = constant + photos * (linear + photos * quadratic)
    total = seconds / count_processes(num_pairs) + min(slowdown, MAX_SLOWDOWN) * mapping
    return f": {counted(num_pairs, 'pair')}, about {shown_time(total)} until the cameras are solved"


def _run_stage(stage: Stage, job: Path, limit: float) -> None:
    script, *arguments = stage.command
    try:
        if stage is MATCHING:
            reason = match_pairs(stage.command, job, limit)
        else:
            reason = run_script(script, [*arguments, str(job)], limit)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"{stage.description} took over {limit:.0f} s, the limit for these photos; use fewer "
            "or smaller photos, or provide their cameras (a COLMAP project or a transforms.json)"
        ) from error
    if reason is not None:
        raise InputError(
            f"{stage.description} failed: {reason}; try other photos, or provide their cameras "
            "(a COLMAP project or a transforms.json)"
        )
