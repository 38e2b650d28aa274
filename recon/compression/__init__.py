"""Compression: the smallest file within a loss, or the smallest loss within a file size."""

from recon.compression.encoder import Encoder as Encoder
from recon.compression.objective import RateDistortionObjective as RateDistortionObjective
from recon.compression.search import EncodedScene as EncodedScene
from recon.compression.search import compress as compress
from recon.compression.search import for_fraction as for_fraction
from recon.compression.search import for_max_loss as for_max_loss
from recon.compression.search import for_target_size as for_target_size
from recon.compression.synthetic_cameras import sphere_cameras as sphere_cameras
from recon.compression.synthetic_cameras import synthetic_cameras as synthetic_cameras
