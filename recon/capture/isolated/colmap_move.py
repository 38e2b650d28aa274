"""Stand-alone script: a COLMAP model in another place and of another size.

Usage: colmap_move.py MODEL_FOLDER OUTPUT_FOLDER SCALE X Y Z

It runs in a process of its own because pycolmap beside torch corrupted the heap in trials; it
imports nothing of recon.
"""

import sys


def main() -> None:
    """Points become SCALE * point + (X, Y, Z)."""
    import numpy as np
    import pycolmap

    scale, *translation = map(float, sys.argv[3:])
    model = pycolmap.Reconstruction(sys.argv[1])
    model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(), np.array(translation)))
    model.write(sys.argv[2])


if __name__ == "__main__":
    main()
