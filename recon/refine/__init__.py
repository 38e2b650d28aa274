"""Test-time optimisation: a few gradient steps on the photos that made the scene."""

from recon.refine.config import RefineConfig as RefineConfig
from recon.refine.config import parse_refine as parse_refine
from recon.refine.holdout import useful_steps as useful_steps
from recon.refine.optimise import Refined as Refined
from recon.refine.optimise import Watch as Watch
from recon.refine.optimise import refine as refine
