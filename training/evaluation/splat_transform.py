"""PlayCanvas's splat-transform as an independent reader and encoder."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from recon.compression import RateDistortionObjective
from recon.formats import load_gaussians

SPLAT_TRANSFORM = "splat-transform"


def has_splat_transform() -> bool:
    """Return whether the tool is installed."""
    return shutil.which(SPLAT_TRANSFORM) is not None


def run_splat_transform(*arguments: str) -> None:
    """Run the tool on the CPU, overwriting its output.

    Raises:
        subprocess.CalledProcessError: The tool failed.
    """
    subprocess.run([SPLAT_TRANSFORM, "-q", "-w", "-g", "cpu", *arguments], check=True)


def independent_loss_db(path: Path, objective: RateDistortionObjective, folder: Path) -> float:
    """Return the loss of a file by code that no search used.

    splat-transform reads the file, and the float64 reference rasterizer renders it.

    Args:
        path: Compressed scene file.
        objective: Cameras to render, and the images of the uncompressed scene.
        folder: Folder of temporary files.

    Returns:
        PSNR lost against the uncompressed scene (dB).
    """
    plain = folder / "independent.ply"
    run_splat_transform(str(path), str(plain))
    scene = load_gaussians(plain).to(torch.float64)
    exact = replace(
        objective,
        eval_cameras=objective.eval_cameras.to("cpu", torch.float64),
        eval_images=objective.eval_images.double(),
    )
    return exact.loss_db(scene)
