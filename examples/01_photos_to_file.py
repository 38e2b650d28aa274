"""Reconstruct photos, and write the scene to files.

python examples/01_photos_to_file.py assets/sample scene.ply --max-views 4
"""

import argparse
from pathlib import Path

import recon


def main() -> None:
    """Read the arguments, reconstruct, save and compress."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", type=Path, help="folder of photos, or a video")
    parser.add_argument("output", type=Path, help=".ply, .spz, .sog, .splat or .glb")
    parser.add_argument("--max-views", type=int, default=8)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--steps", type=int, default=45)
    options = parser.parse_args()

    config = recon.ReconstructConfig(
        views=recon.ViewConfig(options.max_views, options.resolution),
        optimise=recon.OptimiseConfig(steps=options.steps),
    )
    scene = recon.reconstruct(options.photos, config)
    scene.save(options.output)
    print(f"{scene} from {', '.join(scene.provenance.view_names)}")

    # Read it back: a scene from a file has Gaussians, and nothing else.
    again = recon.load(options.output)
    print(f"{len(again):,} Gaussians in {options.output}")


if __name__ == "__main__":
    main()
