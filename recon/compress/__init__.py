"""Fewer Gaussians for the same pictures."""

from recon.compress.prune import PruneConfig as PruneConfig
from recon.compress.prune import prune as prune
