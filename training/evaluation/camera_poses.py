"""How well cameras are found: against given ones, after the Sim3 that fits them best.

python -m training.evaluation.camera_poses configs/captures.yaml --photos all --json poses.json
"""

import argparse
import json
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
from render import Sim3
from render.cameras import camera_centers
from render.quaternions import nearest_rotmats
from training.evaluation.suite import read_split, read_splits, read_suite

# Thresholds of the area under the accuracy curve (degrees).
AUC_DEG = (5.0, 30.0)


@dataclass(frozen=True)
class PoseScores:
    """Errors of one capture's cameras."""

    capture: str
    photos: int
    placed: int
    rotation_deg: float | None
    """Median angle between found and given orientation, aligned; None with fewer than 2 placed."""
    position: float | None
    """Median distance of the places, aligned, in parts of the largest distance of a given camera
    from their middle."""
    auc: dict[str, float]
    """Of the larger of a pair's two relative errors, turn and direction of the baseline, over all
    pairs (VGGT, Wang et al. 2025, section 4.1); pairs with a photo that was not placed count 0."""
    seconds: float


def solve_again(
    capture: Capture, config: SolveConfig, report=lambda stage, done: None
) -> tuple[PosedCapture, Sim3]:
    """The cameras as if none were given, and how their frame lies in the given one."""
    solved = solve_cameras(capture, config, report)
    found, given = _pairs(solved, capture)
    return solved, align(found, given)


def align(found: Float[Tensor, "v 4 4"], given: Float[Tensor, "v 4 4"]) -> Sim3:
    """The frame of the given cameras (world->camera) from that of the found ones: the turn is the
    mean of all cameras' (chordal, Hartley et al. 2013), so that cameras in a row do, too."""
    turns = given[:, :3, :3].mT @ found[:, :3, :3]
    turn = nearest_rotmats(turns.mean(0))
    a, b = camera_centers(found) @ turn.T, camera_centers(given)
    a0, b0 = a.mean(0), b.mean(0)
    scale = ((a - a0) * (b - b0)).sum() / (a - a0).square().sum().clamp_min(1e-30)
    return Sim3(scale, turn, b0 - scale * a0)


def pose_scores(capture: Capture, config: SolveConfig) -> PoseScores:
    """Solve and compare."""
    began, count = time.monotonic(), len(capture.frames)
    try:
        solved, transform = solve_again(capture, config)
    except ReconError:
        nothing = {f"{limit:g}": 0.0 for limit in AUC_DEG}
        seconds = time.monotonic() - began
        return PoseScores(capture.root.name, count, 0, None, None, nothing, seconds)
    seconds = time.monotonic() - began
    found, given = _pairs(solved, capture)
    turned = found[:, :3, :3] @ transform.rotmat.T
    rotation = _angle_deg(turned @ given[:, :3, :3].mT).median()
    places = camera_centers(given)
    spread = (places - places.mean(0)).norm(dim=-1).max()
    away = (transform.apply(camera_centers(found)) - places).norm(dim=-1).median() / spread
    errors = relative_errors_deg(found, given)
    pairs = count * (count - 1) / 2
    auc = {f"{t:g}": float((1 - errors / t).clamp_min(0).sum() / pairs) for t in AUC_DEG}
    placed = len(solved.capture.frames)
    return PoseScores(capture.root.name, count, placed, float(rotation), float(away), auc, seconds)


def relative_errors_deg(
    found: Float[Tensor, "v 4 4"], given: Float[Tensor, "v 4 4"]
) -> Float[Tensor, "p"]:
    """For each pair of views the larger of its errors in turn and in direction of the baseline."""
    errors = []
    for i in range(len(found)):
        for j in range(i + 1, len(found)):
            a, b = (m[j] @ torch.linalg.inv(m[i]) for m in (found, given))
            turn = _angle_deg(a[None, :3, :3] @ b[None, :3, :3].mT)[0]
            cosine = torch.nn.functional.cosine_similarity(a[:3, 3], b[:3, 3], dim=0)
            errors.append(torch.maximum(turn, torch.rad2deg(torch.arccos(cosine.clamp(-1, 1)))))
    return torch.stack(errors)


def _angle_deg(rotmats: Float[Tensor, "v 3 3"]) -> Float[Tensor, "v"]:
    trace = rotmats.diagonal(dim1=-2, dim2=-1).sum(-1)
    return torch.rad2deg(torch.arccos(((trace - 1) / 2).clamp(-1, 1)))


def _pairs(
    solved: PosedCapture, capture: Capture
) -> tuple[Float[Tensor, "v 4 4"], Float[Tensor, "v 4 4"]]:
    """World->camera of all placed photos: found, given."""
    given = {frame.name: frame.camera for frame in capture.frames}
    frames = [f for f in solved.capture.frames if f.camera is not None and given[f.name]]
    found = torch.stack([f.camera.viewmat for f in frames if f.camera])
    truth = [given[f.name] for f in frames]
    return found, torch.stack([camera.viewmat for camera in truth if camera])


def as_line(row: PoseScores) -> str:
    """One row of a Markdown table."""
    errors = ("-", "-")
    if row.rotation_deg is not None and row.position is not None:
        errors = (f"{row.rotation_deg:.2f}", f"{100 * row.position:.2f}")
    auc = " | ".join(f"{value:.2f}" for value in row.auc.values())
    placed = f"{row.placed} of {row.photos}"
    return f"| {row.capture} | {placed} | {errors[0]} | {errors[1]} | {auc} | {row.seconds:.0f} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--photos", default="all", help="all, or the context of a split (2v)")
    parser.add_argument("--only", nargs="*", default=[], help="names of captures")
    parser.add_argument("--matcher", choices=tuple(STAGES), help="only this one")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    rows = []
    say("| capture | placed | turn (deg) | place (%) | AUC@5 | AUC@30 | s |\n|" + "---|" * 7)
    cases = read_suite(options.suite).chosen(options.only)
    for folder in dict.fromkeys(case.capture for case in cases):
        capture = load_capture(folder)
        if options.photos != "all":
            if options.photos not in read_splits(capture):
                continue
            frames = read_split(capture, options.photos).context
            capture = replace(capture, frames=frames)
        rows.append(pose_scores(capture, SolveConfig(use_cache=False, matcher=options.matcher)))
        say(as_line(rows[-1]))
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


if __name__ == "__main__":
    main()
