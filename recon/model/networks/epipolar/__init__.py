"""The network `epipolar`: pixelSplat (Charatan et al., CVPR 2024) on our feature pyramid.

images -> feature pyramid of each view (layers/pyramid.py) -> cross-attention along the epipolar
lines in the source views (attention.py) -> a distribution over depth buckets, from which
Gaussians are sampled (depth.py)
"""

from recon.model.networks.epipolar.config import SIZES as SIZES
from recon.model.networks.epipolar.config import EpipolarConfig as EpipolarConfig
from recon.model.networks.epipolar.network import EpipolarNetwork as EpipolarNetwork
