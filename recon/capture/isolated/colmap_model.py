"""Transform a COLMAP model.

Usage:
    colmap_model.py transform MODEL_FOLDER OUTPUT_FOLDER SCALE X Y Z R11 R12 ... R33

`transform` writes the model with its points moved to SCALE * R * point + (X, Y, Z).

This script runs in a separate process, because importing torch before pycolmap crashes
(colmap/colmap#3477), and imports nothing from recon.
"""

import sys

import numpy as np
import pycolmap


def transform(model_folder: str, output_folder: str, *numbers: str) -> None:
    """Write a scaled, rotated and translated model."""
    scale, *values = map(float, numbers)
    rotation = pycolmap.Rotation3d(np.array(values[3:]).reshape(3, 3))
    model = pycolmap.Reconstruction(model_folder)
    model.transform(pycolmap.Sim3d(scale, rotation, np.array(values[:3])))
    model.write(output_folder)


if __name__ == "__main__":
    transform(*sys.argv[2:])
