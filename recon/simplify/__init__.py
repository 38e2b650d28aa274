"""Fewer Gaussians for the same pictures: pruning, merging, and order by importance."""

from recon.simplify.importance import contribution as contribution
from recon.simplify.importance import importance_order as importance_order
from recon.simplify.prune import PruneConfig as PruneConfig
from recon.simplify.prune import prune as prune
