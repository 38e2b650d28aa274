"""Compression: the smallest file within a loss, or the smallest loss within a file size."""

from recon.callable_package import make_callable
from recon.compress.encoder import Encoder as Encoder
from recon.compress.objective import RateDistortionObjective as RateDistortionObjective
from recon.compress.search import EncodedScene as EncodedScene
from recon.compress.search import compress as compress
from recon.compress.search import for_fraction as for_fraction
from recon.compress.search import for_max_loss as for_max_loss
from recon.compress.search import for_target_size as for_target_size
from recon.compress.synthetic_cameras import sphere_cameras as sphere_cameras
from recon.compress.synthetic_cameras import synthetic_cameras as synthetic_cameras

# `recon.compress(...)` calls the function `compress`.
make_callable(__name__)
