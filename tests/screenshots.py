"""Take the screenshots of docs/viewer.md: `python tests/screenshots.py SCENE [CAPTURE]`."""

import sys
from pathlib import Path

from browsing import choose, free_port, wait_for
from chromium import FLAGS, find
from conftest import ROOT
from playwright.sync_api import Page, sync_playwright

from recon.capture import load_capture
from recon.formats import load_gaussians
from viewer import Photos, Viewer, ViewerScene

FOLDER = ROOT / "docs" / "viewer"
SIZE = {"width": 1280, "height": 860}
# Time for a browser without a graphics card to render a scene (ms).
SETTLE_MS = 8000


def take(page: Page, name: str) -> None:
    """Write one screenshot once the page has rendered the scene."""
    # viser's remark that this browser has no graphics card.
    for button in page.locator("[class*=Notification-closeButton]").all():
        button.click()
    page.wait_for_timeout(SETTLE_MS)
    path = FOLDER / f"{name}.jpg"
    page.screenshot(path=path, quality=80, type="jpeg", timeout=300_000)


def take_all(page: Page, viewer: Viewer) -> None:
    """Go through the panels as a user would."""
    page.goto(viewer.address, wait_until="domcontentloaded")
    wait_for(page, lambda: any(each.sent for each in list(viewer.sessions.values())), 120)
    session = next(iter(viewer.sessions.values()))
    panel = viewer.panels.cameras
    if panel is not None:
        page.get_by_label("Show cameras").click()
        wait_for(page, lambda: not any(frustum.visible for frustum in panel.frustums))
    take(page, "colour")
    for coloring in ("depth", "normals", "contribution"):
        choose(page, "Colour by", coloring)
        wait_for(page, lambda c=coloring: session.sent[0].settings.coloring == c, 120)
        take(page, coloring)
    choose(page, "Render as", "points")
    wait_for(page, lambda: session.sent[0].settings.primitive == "points", 120)
    take(page, "points")
    page.get_by_role("button", name="Reset", exact=True).click()
    wait_for(page, lambda: session.sent[0].settings == viewer.panels.display.default, 120)
    if panel is not None:
        page.get_by_label("Show cameras").click()
        choose(page, "Photo", panel.names[len(panel.names) // 2])
        wait_for(page, lambda: "PSNR" in panel.summary.content, 120)
        take(page, "compare")
        page.get_by_role("button", name="Reset", exact=True).click()
        wait_for(page, lambda: panel.selected is None)
    page.get_by_text("Select and save").click()
    choose(page, "Select by", "box")
    wait_for(page, lambda: viewer.panels.edit.box.visible)
    take(page, "crop")


def main(scene: Path, capture: Path = ROOT / "assets" / "sample") -> None:
    """Serve a scene with a capture's photos and take every screenshot of it."""
    FOLDER.mkdir(exist_ok=True)
    scenes = [ViewerScene(scene.name, load_gaussians(scene), scene.stat().st_size / 1e6)]
    with (
        Viewer(scenes, Photos.of(load_capture(capture)), port=free_port()) as viewer,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(executable_path=find(), args=FLAGS)
        page = browser.new_page(viewport=SIZE)
        page.set_default_timeout(300_000)
        take_all(page, viewer)
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
