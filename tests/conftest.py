"""Fixtures that every floor's tests share."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
# Of a browser that draws without a graphics card and asks nothing of the network.
BROWSER_FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip
# A shell script's background jobs ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


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


@pytest.fixture(scope="session")
def browser() -> Iterator:
    """Debian's Chromium, driven by playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("no chromium on the PATH (Debian: apt-get install chromium)")
    with api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium, headless=True, args=BROWSER_FLAGS
        )
        yield browser
        browser.close()
