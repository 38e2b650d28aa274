"""What we write, shown by Spark (three.js) in a browser, against our own rasterizer.

Needs a node_modules folder with @sparkjsdev/spark and three, named by RECON_NODE_MODULES.
"""

from pathlib import Path

import pytest
import torch
from browsing import gaussians, photos
from foreign_viewers import HEIGHT, WIDTH, fov_deg, keep, served, shoot, view_of
from helpers import psnr

from recon.formats import load_gaussians, save_gaussians
from render import Gaussians, rasterize
from viewer import Photos

pytestmark = pytest.mark.slow
FORMATS = (".ply", ".compressed.ply", ".splat", ".spz", ".sog")
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
  const image = renderer.domElement.toDataURL("image/png");
  renderer.dispose();
  return [mesh.packedSplats.numSplats, image];
};
window.ready = true;
</script>"""


@pytest.mark.parametrize("extension", FORMATS)
def test_spark_shows_the_same(
    extension: str, gaussians: Gaussians, photos: Photos, tmp_path: Path, browser
) -> None:
    path, eye = tmp_path / f"a{extension}", view_of(photos)
    save_gaussians(path, gaussians)
    # Cameras of three.js look along -z with +y up.
    world = eye.c2w[0] @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0]))
    arguments = [f"/{path.name}", world.flatten().tolist(), fov_deg(eye), WIDTH, HEIGHT]
    with served(tmp_path, PAGE, "@sparkjsdev/spark") as address:
        count, found = shoot(browser, address, arguments)
    expected = rasterize(load_gaussians(path), eye).rgb[0].clamp(0, 1)
    keep(f"spark{extension}", expected, found)
    assert count == len(gaussians)
    assert float(expected.mean()) > 0.1
    assert psnr(found, expected) > 30
