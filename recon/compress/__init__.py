"""Smaller scene files for the same pictures."""

from recon.compress.imagine import imagined_cameras as imagined_cameras
from recon.compress.imagine import sphere as sphere
from recon.compress.looks import Looks as Looks
from recon.compress.search import Packed as Packed
from recon.compress.search import Packer as Packer
