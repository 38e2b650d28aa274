"""Test-time optimisation: a few gradient steps on the photos that made the scene."""

from recon.optimise.config import RefineConfig as RefineConfig
from recon.optimise.config import parse_refine as parse_refine
from recon.optimise.early_stopping import useful_steps as useful_steps
from recon.optimise.loop import Refined as Refined
from recon.optimise.loop import Watch as Watch
from recon.optimise.loop import refine as refine
