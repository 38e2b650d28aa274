"""Predict a scene from images and cameras in memory, and render it from a new camera.

python examples/02_tensors_in_renders_out.py assets/sample view.png
"""

import argparse
from pathlib import Path

import torch

import recon
from render import Cameras
from render.video import write_image


def main() -> None:
    """Predict from tensors, and render from between the first two cameras."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture")
    parser.add_argument("output", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    options = parser.parse_args()

    # In place of your own: images [v 3 h w] in [0, 1], and a camera for each.
    loaded = recon.load_views(options.capture, options.resolution, max_views=3)
    images, cameras = loaded.images, loaded.cameras
    views = recon.load_views(images, cameras=cameras)
    prediction = recon.predict(views)  # gaussians, source_view, depth, confidence
    scene = recon.finish_scene(prediction, views)  # simplified and optimised

    pose = cameras.viewmats[:1].clone()
    pose[:, :3, 3] = 0.5 * (cameras.viewmats[0, :3, 3] + cameras.viewmats[1, :3, 3])
    middle = Cameras(pose, cameras.Ks[:1], cameras.width, cameras.height)
    with torch.no_grad():
        output = scene.render(middle)  # rgb [v 3 h w], alpha, depth, expected_depth
    write_image(options.output, output.rgb[0])


if __name__ == "__main__":
    main()
