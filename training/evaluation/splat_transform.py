"""A loss as others measure it."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import torch

from recon.compress import Looks
from recon.formats import load_gaussians

FOREIGN = "splat-transform"


def has_foreign() -> bool:
    """Whether PlayCanvas's tool is there."""
    return shutil.which(FOREIGN) is not None


def run_foreign(*arguments: str) -> None:
    """Run it, without a GPU."""
    subprocess.run([FOREIGN, "-q", "-w", "-g", "cpu", *arguments], check=True)


def independent_loss_db(path: Path, looks: Looks, folder: Path) -> float:
    """What a file loses when the foreign tool reads it and the float64 reference rasterizer, which
    no search used, draws it."""
    plain = folder / "independent.ply"
    run_foreign(str(path), str(plain))
    scene = load_gaussians(plain).to(torch.float64)
    exact = replace(looks, judged=looks.judged.to("cpu", torch.float64), truth=looks.truth.double())
    return exact.loss_db(scene)
