"""The network `epipolar`: pixelSplat (Charatan et al., CVPR 2024) on our parts.

pictures -> pyramid of features of each view (layers/pyramid.py) -> every pixel looks along
its epipolar lines in the other views (attention.py) -> a distribution over depth buckets,
from which Gaussians are drawn (depth.py)
"""

from recon.model.networks.epipolar.config import SIZES as SIZES
from recon.model.networks.epipolar.config import EpipolarConfig as EpipolarConfig
from recon.model.networks.epipolar.network import EpipolarNetwork as EpipolarNetwork
