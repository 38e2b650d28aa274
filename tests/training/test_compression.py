"""The measurement of files, on the sample and small."""

from itertools import islice
from pathlib import Path

import pytest

from recon.settings import ReconstructSettings
from training.compression.measure import FORMATS, Bench, prefixes_of, rows_of
from training.suite import Case


@pytest.mark.slow
def test_rows_and_prefixes(sample: Path, tmp_path: Path) -> None:
    settings = ReconstructSettings(resolution=96, refine="5")
    bench = Bench.of(Case(sample, "2v"), tmp_path, settings)
    rows = list(islice(rows_of(bench), 2 + len(FORMATS)))
    assert [row["name"] for row in rows] == ["raw PLY", "PLY", *FORMATS]
    raw, plain, *others = rows
    assert plain["gaussians"] < 0.6 * raw["gaussians"] and plain["bytes"] < 0.6 * raw["bytes"]
    for row in others:
        assert row["gaussians"] == plain["gaussians"] and row["bytes"] < 0.6 * plain["bytes"]
        assert abs(row["psnr"] - plain["psnr"]) < 0.2
    for row in prefixes_of(bench):
        assert row["prefix"] > row["random"] + 2
