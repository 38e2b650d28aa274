"""Helpers to run third-party viewers in a browser, from a node_modules folder."""

import base64
import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from render import Cameras
from viewer import Photos

WIDTH, HEIGHT = 480, 360


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, modules: Path, folder: Path, **options) -> None:
        self.modules, self.folder = modules, folder
        super().__init__(*arguments, **options)

    def translate_path(self, path: str) -> str:
        name = path.split("?")[0].lstrip("/")
        if name.startswith("modules/"):
            return str(self.modules / name.removeprefix("modules/"))
        return str(self.folder / name)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def served(folder: Path, page: str, package: str) -> Iterator[str]:
    """Serve a page that may import from node_modules; skip the test without the package."""
    modules = Path(os.environ.get("RECON_NODE_MODULES", ""))
    if not (modules / package).is_dir() or "RECON_NODE_MODULES" not in os.environ:
        pytest.skip(f"no {package} (set RECON_NODE_MODULES to a node_modules folder with it)")
    (folder / "index.html").write_text(page)
    handler = functools.partial(Handler, modules=modules, folder=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def view_of(photos: Photos) -> Cameras:
    """Return the camera of a photo with the principal point in the centre of the image."""
    camera = photos.cameras()[[1]].resized(WIDTH, HEIGHT)
    K = camera.Ks.clone()
    K[0, 1, 1] = K[0, 0, 0]
    K[0, 0, 2], K[0, 1, 2] = WIDTH / 2, HEIGHT / 2
    return Cameras(camera.viewmats, K, WIDTH, HEIGHT)


def fov_deg(eye: Cameras) -> float:
    """Return the vertical field of view."""
    return float(torch.rad2deg(2 * torch.atan(HEIGHT / 2 / eye.Ks[0, 1, 1])))


def shoot(browser, address: str, arguments: list) -> tuple[int, torch.Tensor]:
    """Return what the `shoot` function of a page does: the number of Gaussians and an image."""
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    try:
        page.goto(address, wait_until="domcontentloaded")
        page.wait_for_function("window.ready === true", timeout=240_000)
        count, url = page.evaluate("(a) => window.shoot(...a)", arguments)
    finally:
        page.close()
    raw = np.frombuffer(base64.b64decode(url.split(",")[1]), np.uint8)
    image = cv2.cvtColor(cv2.imdecode(raw, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return count, torch.from_numpy(image).permute(2, 0, 1).float() / 255


def keep(name: str, expected: torch.Tensor, found: torch.Tensor) -> None:
    """Save both images side by side in the folder RECON_SHOW, for inspection."""
    if os.environ.get("RECON_SHOW"):
        both = torch.cat([expected, found], 2).permute(1, 2, 0).numpy()[..., ::-1]
        cv2.imwrite(f"{os.environ['RECON_SHOW']}/{name}.png", 255 * both)
