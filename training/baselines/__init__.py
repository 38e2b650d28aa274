"""Baseline methods: 3D Gaussian Splatting of one scene, optimised on the same photos."""

from training.baselines.gsplat_mcmc import McmcConfig as McmcConfig
from training.baselines.gsplat_mcmc import McmcResult as McmcResult
from training.baselines.gsplat_mcmc import optimise_mcmc as optimise_mcmc
from training.baselines.initialisation import random_points as random_points
from training.baselines.initialisation import sfm_points as sfm_points
from training.baselines.initialisation import surface_points as surface_points
