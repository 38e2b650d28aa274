"""The measurement of files, on the sample and small."""

from itertools import islice
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians

from recon.compression import RateDistortionObjective
from recon.config import OptimiseConfig, ReconstructConfig, ViewConfig
from recon.formats import load_gaussians
from render.quaternions import quats_to_rotmats
from render.sh import sh_to_colors
from training.evaluation.glossy import LIGHT, STRENGTH, glossy
from training.evaluation.rate_distortion import LOSSY_FORMATS, Subject, format_rows, prefix_rows
from training.evaluation.splat_transform import has_splat_transform, independent_loss_db
from training.evaluation.suite import Case


@pytest.mark.slow
def test_rows_and_prefixes(sample: Path, tmp_path: Path) -> None:
    settings = ReconstructConfig(views=ViewConfig(resolution=96), optimise=OptimiseConfig(5))
    subject = Subject.reconstruct(Case(sample, "2v"), tmp_path, settings)
    rows = list(islice(format_rows(subject), 2 + len(LOSSY_FORMATS)))
    assert [row["name"] for row in rows] == ["raw PLY", "PLY", *LOSSY_FORMATS]
    raw, plain, *others = rows
    assert plain["gaussians"] < 0.6 * raw["gaussians"] and plain["bytes"] < 0.6 * raw["bytes"]
    for row in others:
        assert row["gaussians"] == plain["gaussians"] and row["bytes"] < 0.6 * plain["bytes"]
        assert abs(row["psnr"] - plain["psnr"]) < 0.2
    for row in prefix_rows(subject):
        assert row["prefix"] > row["random"] + 2
    if has_splat_transform():
        views = subject.context
        objective = RateDistortionObjective.of(subject.scene, views.cameras, photos=views)
        path = tmp_path / "plain.sog"
        lost = independent_loss_db(path, objective, tmp_path)
        assert lost == pytest.approx(objective.loss_db(load_gaussians(path)), rel=0.02)
    shiny = subject.with_highlights()
    assert shiny.scene.sh_degree == 3 and len(shiny.scene) == len(subject.scene)
    assert (shiny.targets.images - subject.targets.images).abs().max() > 0.05


def test_highlights_are_in_the_mirrored_direction(generator: torch.Generator) -> None:
    dull = random_gaussians(300, generator, degree=0, dtype=torch.float32)
    shiny = glossy(dull)
    shiny.validate()
    light = torch.nn.functional.normalize(torch.tensor(LIGHT), dim=0)
    shortest = dull.scales.argmin(-1)
    normal = quats_to_rotmats(dull.quats)[torch.arange(300), :, shortest]
    mirrored = light - 2 * (normal @ light)[:, None] * normal
    dirs = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=1)
    added = [
        (sh_to_colors(shiny.sh, d) - sh_to_colors(dull.sh, d)).mean(-1)
        for d in (mirrored, -mirrored, dirs)
    ]
    assert added[0].max() <= 1.01 * STRENGTH and added[0].mean() > 0.1 * STRENGTH
    assert (added[0] >= added[2] - 1e-6).all() and added[1].abs().mean() < 0.2 * added[0].mean()
