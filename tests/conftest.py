"""Fixtures of all tests."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import shape_checks
import torch
from chromium import Chromium, find

shape_checks.install()
ROOT = Path(__file__).resolve().parent.parent
# A shell script's background jobs ignore Ctrl-C, and so would the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup() -> None:
    shape_checks.start_test()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of slow tests, so that no process ends with one of them."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name no test after bytes: with a time in them, each process would have another name."""
    return argname if isinstance(val, bytes) else None


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """Give the tests a cache of their own, apart from that of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECON_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def captures() -> Path:
    """Return the folder of real captures; skip the test if there is none."""
    folder = Path(os.environ.get("RECON_CAPTURES") or ROOT.parent / "shared" / "captures")
    if not folder.is_dir():
        pytest.skip(f"no real captures at {folder} (set RECON_CAPTURES)")
    return folder


@pytest.fixture(scope="session")
def sample() -> Path:
    """Return the sample capture that ships with recon."""
    return ROOT / "assets" / "sample"


@pytest.fixture()
def generator() -> torch.Generator:
    """Return a seeded random number generator."""
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Chromium]:
    """Return what starts Chromium; skip the test without it."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = find()
    if executable is None:
        pytest.skip("no chromium on the PATH (Debian: apt-get install chromium)")
    with api.sync_playwright() as driver:
        yield Chromium(driver, executable)


@pytest.fixture()
def browser(chromium: Chromium) -> Iterator:
    """Return a browser, which is killed when it stops answering."""
    with chromium.limited() as browser:
        yield browser
