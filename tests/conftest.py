"""Fixtures that every floor's tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """Nothing of the tests in the user's cache, and nothing of it in the tests."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def captures() -> Path:
    """Folder of real captures; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("RECON_CAPTURES", ROOT.parent / "shared" / "captures"))
    if not folder.is_dir():
        pytest.skip(f"no real captures at {folder} (set RECON_CAPTURES)")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """The sample capture that ships with recon."""
    return ROOT / "assets" / "sample"


@pytest.fixture()
def generator() -> torch.Generator:
    """A seeded source of random numbers."""
    return torch.Generator().manual_seed(0)
