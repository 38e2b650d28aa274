"""The network `cost-volume`: a plane-sweep cost volume, regularised by a 3D network.

images -> feature pyramid with a transformer over all views (layers/pyramid.py) -> matching
channels of every depth hypothesis: ZNCC and group-wise correlation, averaged over the source
views (matching.py) -> 3D network over the hypotheses (stage.py), in a coarse and a fine stage,
the fine one with the consistency of the views' depths (multi_view_consistency.py)
-> upsampling and Gaussians (decoder.py)
"""

from recon.model.networks.cost_volume.config import SIZES as SIZES
from recon.model.networks.cost_volume.config import CostVolumeConfig as CostVolumeConfig
from recon.model.networks.cost_volume.network import CostVolumeNetwork as CostVolumeNetwork
