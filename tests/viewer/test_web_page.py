"""The web page of a scene in a real browser."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browsing import wait_for
from helpers import psnr, random_gaussians

from viewer import DisplaySettings, ViewerScene, write_page
from viewer.state import ViewerState

pytestmark = pytest.mark.slow
SIZE = 480
"""Width and height of the page (px)."""
# viser's button and its remark that the browser has no graphics card are in the upper half.
LOWER_HALF = (slice(None), slice(SIZE // 2, SIZE))


def screenshot(page) -> torch.Tensor:
    """Return the lower half of what a page displays."""
    image = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    return torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[LOWER_HALF].float() / 255


def test_page_from_the_disk_displays_what_the_rasterizer_renders(
    browser, generator: torch.Generator, tmp_path: Path
) -> None:
    """Splats overlap, so that an image of splats that are not sorted is another."""
    cloud = random_gaussians(300, generator, dtype=torch.float32)
    scene = ViewerScene("a.ply", replace(cloud, sh=3 * cloud.sh))
    write_page(tmp_path / "page", scene, None, DisplaySettings())
    state = ViewerState([scene])
    start = state.start
    camera = state.normalisation.look_at_camera(
        start.position, start.look_at, start.up, start.fov, SIZE
    )
    expected = state.rendered(camera)[LOWER_HALF]
    page = browser.new_page(viewport={"width": SIZE, "height": SIZE})
    try:
        page.goto((tmp_path / "page" / "index.html").as_uri())
        wait_for(page, lambda: psnr(screenshot(page), expected) > 40, 60)
    finally:
        page.close()
