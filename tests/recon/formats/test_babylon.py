"""The .glb that we write, shown by Babylon.js in a browser, against our own rasterizer.

Needs a node_modules folder with babylonjs and babylonjs-loaders, named by RECON_NODE_MODULES.
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
PAGE = """<!doctype html><body style="margin:0">
<script src="/modules/babylonjs/babylon.js"></script>
<script src="/modules/babylonjs-loaders/babylonjs.loaders.js"></script>
<script>
window.shoot = async (name, eye, target, up, fov, width, height) => {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  document.body.replaceChildren(canvas);
  const engine = new BABYLON.Engine(canvas, false, { preserveDrawingBuffer: true });
  const scene = new BABYLON.Scene(engine);
  scene.useRightHandedSystem = true;
  scene.clearColor = new BABYLON.Color4(0, 0, 0, 1);
  const camera = new BABYLON.FreeCamera("eye", BABYLON.Vector3.FromArray(eye), scene);
  camera.upVector = BABYLON.Vector3.FromArray(up);
  camera.setTarget(BABYLON.Vector3.FromArray(target));
  camera.fov = fov;
  camera.minZ = 0.01;
  await BABYLON.SceneLoader.AppendAsync("/", name, scene);
  const mesh = scene.meshes.find((each) => each.getClassName() === "GaussianSplattingMesh");
  for (let i = 0; i < 30; i++) {
    scene.render();
    await new Promise((next) => setTimeout(next, 100));
  }
  const image = canvas.toDataURL("image/png");
  const count = mesh.splatCount;
  engine.dispose();
  return [count, image];
};
window.ready = true;
</script>"""


def with_harmonics(gaussians: Gaussians, degree: int) -> Gaussians:
    """Return a scene whose colours depend on the direction."""
    generator = torch.Generator().manual_seed(degree)
    more = 0.1 * torch.randn(len(gaussians), (degree + 1) ** 2 - 1, 3, generator=generator)
    sh = torch.cat([gaussians.sh, more], 1)
    return Gaussians(
        gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, sh
    )  # fmt: skip


@pytest.mark.parametrize("degree", [0, 2, 3])
def test_babylon_shows_the_same(
    degree: int, gaussians: Gaussians, photos: Photos, tmp_path: Path, browser
) -> None:
    path, eye = tmp_path / "a.glb", view_of(photos)
    save_gaussians(path, with_harmonics(gaussians, degree))
    # glTF has +y up and, as recon writes it, x to the other side.
    axes = torch.tensor([-1.0, -1.0, 1.0])
    c2w = eye.c2w[0]
    position, ahead, up = c2w[:3, 3] * axes, c2w[:3, 2] * axes, -c2w[:3, 1] * axes
    fov = float(torch.deg2rad(torch.tensor(fov_deg(eye))))
    arguments = [
        path.name, position.tolist(), (position + ahead).tolist(), up.tolist(), fov, WIDTH, HEIGHT
    ]  # fmt: skip
    with served(tmp_path, PAGE, "babylonjs") as address:
        count, found = shoot(browser, address, arguments)
    expected = rasterize(load_gaussians(path), eye).rgb[0].clamp(0, 1)
    keep(f"babylon{degree}", expected, found)
    assert count == len(gaussians)
    assert psnr(found, expected) > 30
