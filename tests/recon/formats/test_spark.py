"""What we write, shown by Spark (three.js) in a browser, against our own rasterizer.

Needs a node_modules folder with @sparkjsdev/spark and three, named by RECON_NODE_MODULES.
"""

import base64
import functools
import os
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from browsing import gaussians, photos
from helpers import psnr

from recon.formats import load_gaussians, save_gaussians
from render import Cameras, Gaussians, rasterize
from viewer import Photos

pytestmark = pytest.mark.slow
FORMATS = (".ply", ".compressed.ply", ".splat", ".spz", ".sog")
WIDTH, HEIGHT = 480, 360
PAGE = """<!doctype html><body style="margin:0"><script type="importmap">{"imports": {
"three": "/modules/three/build/three.module.js",
"three/addons/": "/modules/three/examples/jsm/",
"@sparkjsdev/spark": "/modules/@sparkjsdev/spark/dist/spark.module.js"}}</script>
<script type="module">
import * as THREE from "three";
import { SplatMesh, SparkRenderer } from "@sparkjsdev/spark";
window.shoot = async (url, world, fov, width, height) => {
  const renderer = new THREE.WebGLRenderer({ preserveDrawingBuffer: true });
  renderer.setPixelRatio(1);
  renderer.setSize(width, height);
  document.body.replaceChildren(renderer.domElement);
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0);
  scene.add(new SparkRenderer({ renderer }));
  const camera = new THREE.PerspectiveCamera(fov, width / height, 0.01, 1000);
  camera.matrixAutoUpdate = false;
  camera.matrix.fromArray(world).transpose();
  camera.matrixWorldNeedsUpdate = true;
  const mesh = new SplatMesh({ url });
  scene.add(mesh);
  await mesh.initialized;
  for (let i = 0; i < 20; i++) {
    renderer.render(scene, camera);
    await new Promise((next) => setTimeout(next, 100));
  }
  const picture = renderer.domElement.toDataURL("image/png");
  renderer.dispose();
  return [mesh.packedSplats.numSplats, picture];
};
window.ready = true;
</script>"""


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


@pytest.fixture()
def address(tmp_path: Path) -> Iterator[str]:
    modules = os.environ.get("RECON_NODE_MODULES")
    if modules is None:
        pytest.skip("no Spark (set RECON_NODE_MODULES to a node_modules with it and three)")
    (tmp_path / "index.html").write_text(PAGE)
    handler = functools.partial(Handler, modules=Path(modules), folder=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def view_of(photos: Photos) -> Cameras:
    """A photo's camera, with the middle of its picture on its axis."""
    camera = photos.cameras()[[1]].resized(WIDTH, HEIGHT)
    K = camera.Ks.clone()
    K[0, 1, 1] = K[0, 0, 0]
    K[0, 0, 2], K[0, 1, 2] = WIDTH / 2, HEIGHT / 2
    return Cameras(camera.viewmats, K, WIDTH, HEIGHT)


@pytest.mark.parametrize("extension", FORMATS)
def test_spark_shows_the_same(
    extension: str, gaussians: Gaussians, photos: Photos, address: str, tmp_path: Path, browser
) -> None:
    path, eye = tmp_path / f"a{extension}", view_of(photos)
    save_gaussians(path, gaussians)
    # Cameras of three.js look along -z with +y up.
    world = eye.c2w[0] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    fov = float(torch.rad2deg(2 * torch.atan(HEIGHT / 2 / eye.Ks[0, 1, 1])))
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_function("window.ready === true", timeout=20_000)
    arguments = [f"/{path.name}", world.flatten().tolist(), fov, WIDTH, HEIGHT]
    count, picture = page.evaluate("(a) => window.shoot(...a)", arguments)
    page.close()
    raw = np.frombuffer(base64.b64decode(picture.split(",")[1]), np.uint8)
    shown = cv2.cvtColor(cv2.imdecode(raw, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    found = torch.from_numpy(shown).permute(2, 0, 1).float() / 255
    expected = rasterize(load_gaussians(path), eye).rgb[0].clamp(0, 1)
    assert count == len(gaussians)
    assert float(expected.mean()) > 0.1
    if os.environ.get("RECON_SHOW"):
        both = torch.cat([expected, found], 2).permute(1, 2, 0).numpy()[..., ::-1]
        cv2.imwrite(f"{os.environ['RECON_SHOW']}/spark{extension}.png", 255 * both)
    assert psnr(found, expected) > 30
