"""The competitor: 3D Gaussian Splatting of one scene from scratch, on the same photos."""

from training.scratch.optimise import Optimised as Optimised
from training.scratch.optimise import ScratchConfig as ScratchConfig
from training.scratch.optimise import optimise as optimise
from training.scratch.start import random_points as random_points
from training.scratch.start import surface_points as surface_points
