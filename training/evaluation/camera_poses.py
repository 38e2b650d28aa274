"""Accuracy of solved cameras against given ones, after the Sim3 that aligns them best.

python -m training.evaluation.camera_poses configs/captures.yaml --photos all --json poses.json
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from recon.capture import Capture, load_capture
from recon.capture.sfm import PosedCapture, SolveConfig, solve_cameras
from recon.capture.sfm.stages import STAGES
from recon.errors import ReconError
from recon.reporting import say
from recon.types import StageProgress
from render import Sim3
from render.cameras import camera_centers
from render.quaternions import nearest_rotmats
from training.evaluation.suite import read_split, read_splits, read_suite
from training.programs import check_outputs, program, write_numbers

# Thresholds of the area under the accuracy curve (degrees).
AUC_DEG = (5.0, 30.0)
COLUMNS = (
    "capture", "registered", "rotation error (deg)", "translation error (%)", "AUC@5", "AUC@30",
    "s",
)  # fmt: skip


@dataclass(frozen=True)
class PoseScores:
    """Errors of the solved cameras of one capture."""

    capture: str
    """Name of the capture."""
    photos: int
    """Number of photos."""
    registered: int
    """Number of photos whose cameras were solved."""
    rotation_deg: float | None
    """Median angle between solved and given orientation after alignment; None if the solver
    failed."""
    translation: float | None
    """Median distance between solved and given position after alignment, relative to the largest
    distance of a given camera from their centroid; None if the solver failed."""
    auc: dict[str, float]
    """Area under the accuracy curve by threshold (degrees). The error of a pair of views is the
    larger of its relative rotation error and the angle between the directions of its baseline
    (VGGT, Wang et al. 2025, section 4.1); pairs with an unregistered photo count 0."""
    seconds: float
    """Time of the solver (s)."""


def solve_again(
    capture: Capture,
    config: SolveConfig,
    progress: StageProgress = lambda stage, fraction: None,
) -> tuple[PosedCapture, Sim3]:
    """Solve the cameras as if none were given.

    Returns:
        The solved capture, and the given frame from the solved one.

    Raises:
        InputError: The cameras cannot be solved.
    """
    solved = solve_cameras(capture, config, progress)
    found, given = _pairs(solved, capture)
    return solved, align(found, given)


def align(found: Float[Tensor, "v 4 4"], given: Float[Tensor, "v 4 4"]) -> Sim3:
    """Estimate the given frame from the found one, by cameras (camera from world) in both.

    The rotation is the chordal mean of all cameras' rotations (Hartley et al. 2013), so that
    collinear cameras suffice.
    """
    rotations = given[:, :3, :3].mT @ found[:, :3, :3]
    rotation = nearest_rotmats(rotations.mean(0))
    a, b = camera_centers(found) @ rotation.T, camera_centers(given)
    a0, b0 = a.mean(0), b.mean(0)
    scale = ((a - a0) * (b - b0)).sum() / (a - a0).square().sum().clamp_min(1e-30)
    return Sim3(scale, rotation, b0 - scale * a0)


def pose_scores(capture: Capture, config: SolveConfig) -> PoseScores:
    """Solve the cameras of a capture and compare them with the given ones."""
    began, count = time.monotonic(), len(capture.frames)
    try:
        solved, transform = solve_again(capture, config)
    except ReconError:
        zeros = {f"{limit:g}": 0.0 for limit in AUC_DEG}
        seconds = time.monotonic() - began
        return PoseScores(capture.root.name, count, 0, None, None, zeros, seconds)
    seconds = time.monotonic() - began
    found, given = _pairs(solved, capture)
    aligned = found[:, :3, :3] @ transform.rotmat.T
    rotation = _angle_deg(aligned @ given[:, :3, :3].mT).median()
    centers = camera_centers(given)
    radius = (centers - centers.mean(0)).norm(dim=-1).max()
    distance = (transform.apply(camera_centers(found)) - centers).norm(dim=-1)
    errors = relative_errors_deg(found, given)
    pairs = count * (count - 1) / 2
    return PoseScores(
        capture=capture.root.name,
        photos=count,
        registered=len(solved.capture.frames),
        rotation_deg=float(rotation),
        translation=float(distance.median() / radius),
        auc={f"{t:g}": float((1 - errors / t).clamp_min(0).sum() / pairs) for t in AUC_DEG},
        seconds=seconds,
    )


def relative_errors_deg(
    found: Float[Tensor, "v 4 4"], given: Float[Tensor, "v 4 4"]
) -> Float[Tensor, " p"]:
    """Return for each pair of views the larger error: rotation, or direction of the baseline."""
    errors = []
    for i in range(len(found)):
        for j in range(i + 1, len(found)):
            a, b = (m[j] @ torch.linalg.inv(m[i]) for m in (found, given))
            rotation = _angle_deg(a[None, :3, :3] @ b[None, :3, :3].mT)[0]
            cosine = torch.nn.functional.cosine_similarity(a[:3, 3], b[:3, 3], dim=0)
            direction = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))
            errors.append(torch.maximum(rotation, direction))
    return torch.stack(errors)


def _angle_deg(rotmats: Float[Tensor, "v 3 3"]) -> Float[Tensor, " v"]:
    trace = rotmats.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def _pairs(
    solved: PosedCapture, capture: Capture
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 4 4"]]:
    """Return found and given cameras (camera from world) of all registered photos."""
    given_cameras = {frame.name: frame.camera for frame in capture.frames}
    found, given = [], []
    for frame in solved.capture.frames:
        reference = given_cameras[frame.name]
        if frame.camera is not None and reference is not None:
            found.append(frame.camera.viewmat)
            given.append(reference.viewmat)
    return torch.stack(found), torch.stack(given)


def as_line(row: PoseScores) -> str:
    """Return one row of a Markdown table."""
    errors = ("-", "-")
    if row.rotation_deg is not None and row.translation is not None:
        errors = (f"{row.rotation_deg:.2f}", f"{100 * row.translation:.2f}")
    auc = " | ".join(f"{value:.2f}" for value in row.auc.values())
    registered = f"{row.registered} of {row.photos}"
    cells = f"{row.capture} | {registered} | {errors[0]} | {errors[1]}"
    return f"| {cells} | {auc} | {row.seconds:.0f} |"


@program
def main(arguments: Sequence[str] | None = None) -> None:
    """Solve the captures of a suite and print a table of errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--photos", default="all", help="all, or the context of a split (2v)")
    parser.add_argument("--only", nargs="*", default=[], help="names of captures")
    parser.add_argument("--matcher", choices=tuple(STAGES), help="use this matcher only")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    check_outputs(options.json)
    rows = []
    say(f"| {' | '.join(COLUMNS)} |\n|" + "---|" * len(COLUMNS))
    cases = read_suite(options.suite).select(options.only)
    for folder in dict.fromkeys(case.capture for case in cases):
        capture = load_capture(folder)
        if options.photos != "all":
            if options.photos not in read_splits(capture):
                continue
            frames = read_split(capture, options.photos).context
            capture = replace(capture, frames=frames)
        rows.append(pose_scores(capture, SolveConfig(use_cache=False, matcher=options.matcher)))
        say(as_line(rows[-1]))
    write_numbers([asdict(row) for row in rows], options.json)


if __name__ == "__main__":
    main()
