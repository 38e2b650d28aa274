"""The competitor: 3D Gaussian Splatting of one scene from scratch, on the same photos."""

from training.baselines.gsplat_mcmc import Optimised as Optimised
from training.baselines.gsplat_mcmc import ScratchConfig as ScratchConfig
from training.baselines.gsplat_mcmc import optimise as optimise
from training.baselines.initialisation import random_points as random_points
from training.baselines.initialisation import surface_points as surface_points
