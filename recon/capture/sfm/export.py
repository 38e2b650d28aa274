"""Solved cameras for other tools."""

import shutil
from pathlib import Path

from recon.capture.isolated_process import run_script
from recon.capture.sfm.solver import PosedCapture
from recon.errors import InputError
from recon.files import atomic_output
from render import Sim3

# For the largest model that is solved here (s).
MOVE_LIMIT_S = 120.0


def export_colmap(solved: PosedCapture, folder: Path) -> None:
    """A COLMAP project that other tools can train from: the photos as they are, and the solver's
    model, of their original sizes, in sparse/0."""
    if solved.colmap_model is None:
        raise InputError(f"nothing to write into {folder}: no cameras were solved")
    with atomic_output(folder) as temporary:
        _copy_model(solved.colmap_model, temporary / "sparse" / "0", solved.capture_from_model)
        for frame in solved.capture.frames:
            target = temporary / "images" / frame.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(frame.image_path, target)


def _copy_model(model: Path, target: Path, world: Sim3 | None) -> None:
    if world is None:
        shutil.copytree(model, target)
        return
    target.mkdir(parents=True)
    numbers = [str(float(value)) for value in (world.scale, *world.translation)]
    reason = run_script("colmap_move.py", [str(model), str(target), *numbers], MOVE_LIMIT_S)
    if reason is not None:
        raise InputError(f"cannot write the COLMAP model into {target}: {reason}")
