"""The network `cost-volume`: a plane sweep whose evidence is weighed by a network.

pictures -> pyramid of features -> transformer over all views, fused back into the pyramid
(layers/pyramid.py) -> evidence of every plane: ZNCC and learned correlation, averaged over
the other views (matching.py) -> 3D network over planes (regulariser.py), twice, from coarse to
fine (stage.py), the second time with what the other views believe (votes.py) -> full size and
Gaussians (decoder.py)
"""

from recon.model.networks.cost_volume.config import SIZES as SIZES
from recon.model.networks.cost_volume.config import CostVolumeConfig as CostVolumeConfig
from recon.model.networks.cost_volume.network import CostVolumeNetwork as CostVolumeNetwork
