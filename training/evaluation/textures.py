"""How near renders of a textured mesh come to photos, beside those of the scene it was made of.

python -m training.evaluation.textures scene.ply mesh.glb CAPTURE --views 0 5 --save /tmp/renders

The mesh is a .glb of `recon mesh --texture` in the frame of the capture; rays are traced by Embree.
Scene and mesh are rendered over black, as photos with alpha are compared.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample

from recon.capture import load_views
from recon.capture.cameras import DEFAULT_LONG_SIDE_PX
from recon.errors import InputError
from recon.formats import open_scene
from recon.formats.y_up import GLTF_FROM_SCENE, Up, up_axis
from recon.reporting import say
from render import Cameras, RasterizeSettings, rasterize
from render.video import write_image
from training.evaluation.metrics import psnr
from training.programs import make_folder, program

# Rays per pixel each way.
SAMPLES = 2


def load_textured(path: Path, up: Up) -> Any:
    """Read a mesh with a texture, in the axes of its scene.

    Args:
        path: A .glb that recon wrote.
        up: Axis of the scene that is +y in the file.

    Raises:
        InputError: It cannot be read, or has no texture.
    """
    try:
        mesh: Any = trimesh.load(path, force="mesh", process=False)
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(f"cannot read the mesh {path}: {error}; expected a .glb") from None
    if getattr(mesh.visual, "uv", None) is None:
        raise InputError(f"{path} has no texture; make it with recon mesh --texture")
    mesh.vertices = mesh.vertices @ GLTF_FROM_SCENE[up]
    return mesh


def render_textured(mesh: Any, camera: Cameras) -> Float[Tensor, "3 h w"]:
    """Trace SAMPLES x SAMPLES rays through every pixel to the texture, unlit, over black."""
    width, height = camera.width, camera.height
    camera = camera.resized(SAMPLES * width, SAMPLES * height)
    origins, dirs = (rays[0].reshape(-1, 3).double().numpy() for rays in camera.rays())
    tracer = trimesh.ray.ray_pyembree.RayMeshIntersector(mesh)
    points, rays, faces = tracer.intersects_location(origins, dirs, multiple_hits=False)
    to_weights: Any = trimesh.triangles.points_to_barycentric
    weights = to_weights(mesh.triangles[faces], points)
    uv = (weights[:, :, None] * mesh.visual.uv[mesh.faces[faces]]).sum(1)
    pixels = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), np.float32) / 255
    texture = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    # trimesh counts v from the bottom.
    grid = torch.from_numpy(np.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], 1)).float()[None, None]
    image = torch.zeros(3, len(origins))
    image[:, rays] = grid_sample(texture, grid, align_corners=False, padding_mode="border")[0, :, 0]
    return avg_pool2d(image.reshape(3, camera.height, camera.width), SAMPLES)


@program
@torch.no_grad()
def main(words: Sequence[str] | None = None) -> None:
    """Measure views of a capture and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scene", type=Path)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("capture", type=Path)
    parser.add_argument("--views", type=int, nargs="+", metavar="N", help="indices of photos")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep photo, scene and mesh")
    options = parser.parse_args(words)
    make_folder(options.save)
    views = load_views(options.capture, DEFAULT_LONG_SIDE_PX)
    source = open_scene(options.scene)
    gaussians = source.load()
    chosen = options.views or range(len(views))
    if not all(0 <= index < len(views) for index in chosen):
        parser.error(f"--views must be between 0 and {len(views) - 1}, found {max(chosen)}")
    mesh = load_textured(options.mesh, up_axis(list(views.cameras)))
    settings = RasterizeSettings(antialiased=source.antialiased)
    rows = []
    for index in chosen:
        camera, photo = views.cameras[[index]], views.images[index]
        splats = rasterize(gaussians, camera, settings=settings).rgb[0]
        surface = render_textured(mesh, camera)
        everywhere = torch.ones_like(photo[:1])
        rows.append(
            [
                psnr(first, second, everywhere)
                for first, second in (
                    (splats, photo),
                    (surface, photo),
                    (surface, splats.clamp(0, 1)),
                )
            ]
        )
        say(f"| {views.names[index]} | " + " | ".join(f"{value:.2f}" for value in rows[-1]) + " |")
        if options.save is not None:
            together = torch.cat([photo, splats, surface], 2)
            write_image(options.save / f"{index:03d}.png", together)
    means = np.mean(rows, 0)
    say("| mean | " + " | ".join(f"{value:.2f}" for value in means) + " |")


if __name__ == "__main__":
    main()
