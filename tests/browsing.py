"""A small scene, a viewer of it, and browser pages that display it."""

import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import swept

from recon.capture import load_capture, load_views
from render import Gaussians
from viewer import Photos, Viewer, ViewerScene

# The panels take 320 px: the canvas has the aspect ratio of the test's renderings, since viser
# stretches others.
SIZE = {"width": 960, "height": 480}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def gaussians(sample: Path) -> Gaussians:
    """Reconstruct a small scene from the sample's photos 2 and 4."""
    frames = load_capture(sample).frames
    return swept(load_views([frames[2], frames[4]], 128))


@pytest.fixture(scope="session")
def photos(sample: Path) -> Photos:
    capture = load_capture(sample)
    return Photos.of(replace(capture, frames=capture.frames[2:5]))


@pytest.fixture()
def viewer(gaussians: Gaussians, photos: Photos) -> Iterator[Viewer]:
    with Viewer([ViewerScene("sample.ply", gaussians, 1.0)], photos, port=free_port()) as viewer:
        yield viewer


@pytest.fixture()
def visit(browser) -> Iterator[Callable]:
    """Open pages of a viewer; each waits for the panels and the first scene."""
    pages = []

    def open_page(viewer: Viewer):
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(240_000)
        pages.append(page)
        page.goto(viewer.address, wait_until="domcontentloaded")
        page.get_by_text("Min opacity").wait_for(timeout=240_000)
        wait_for(page, lambda: len(viewer.sessions) >= len(pages))
        session = viewer.sessions[max(viewer.sessions)]
        wait_for(page, lambda: bool(session.sent))
        return page, session

    yield open_page
    for page in pages:
        if browser.is_connected():
            page.close()


def wait_for(page, condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Let a page run until a condition holds, or fail after some time."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        page.wait_for_timeout(100)


def choose(page, label: str, option: str) -> None:
    """Choose an option of a drop-down list."""
    page.get_by_label(label, exact=True).first.click()
    page.get_by_role("option", name=option, exact=True).click()
