"""Fewer Gaussians for the same pictures."""

from recon.compress.imagine import imagined_cameras as imagined_cameras
from recon.compress.imagine import sphere as sphere
from recon.compress.importance import contribution as contribution
from recon.compress.importance import importance_order as importance_order
from recon.compress.looks import Looks as Looks
from recon.compress.prune import PruneConfig as PruneConfig
from recon.compress.prune import prune as prune
from recon.compress.search import Packed as Packed
from recon.compress.search import Packer as Packer
