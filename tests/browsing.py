"""A scene to look at, and pages that do."""

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import swept

from recon.capture import load_capture, load_views
from recon.formats import load_gaussians
from render import Gaussians
from viewer import Photos, ShownScene, Viewer

# The panel takes 320 px: the canvas has the proportions that pictures are taken with, since viser
# stretches others.
SIZE = {"width": 960, "height": 480}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def gaussians(sample: Path) -> Gaussians:
    """A small scene of the sample's photos 2 and 4, or the one to take pictures of."""
    better = os.environ.get("RECON_SCREENSHOTS", "")
    if better.endswith(".ply"):
        return load_gaussians(Path(better))
    frames = load_capture(sample).frames
    return swept(load_views([frames[2], frames[4]], 128))


@pytest.fixture(scope="session")
def photos(sample: Path) -> Photos:
    capture = load_capture(sample)
    return Photos.of(replace(capture, frames=capture.frames[2:5]))


@pytest.fixture()
def viewer(gaussians: Gaussians, photos: Photos) -> Iterator[Viewer]:
    with Viewer([ShownScene("sample.ply", gaussians, 1.0)], photos, port=free_port()) as viewer:
        yield viewer


@pytest.fixture()
def visit(browser) -> Iterator[Callable]:
    """Opens a page of a viewer and waits for the panel and the first scene."""
    pages = []

    def open_page(viewer: Viewer):
        page = browser.new_page(viewport=SIZE)
        pages.append(page)
        page.goto(viewer.address, wait_until="domcontentloaded")
        page.get_by_text("Least opacity").wait_for(timeout=60_000)
        wait_for(page, lambda: len(viewer.sessions) >= len(pages))
        session = viewer.sessions[max(viewer.sessions)]
        wait_for(page, lambda: bool(session.sent))
        return page, session

    yield open_page
    for page in pages:
        page.close()


def wait_for(page, condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Let the page go on until something is so; AssertionError when it never is."""
    for _ in range(int(10 * seconds)):
        if condition():
            return
        page.wait_for_timeout(100)
    raise AssertionError("timed out")
