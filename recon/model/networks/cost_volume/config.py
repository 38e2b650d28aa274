"""Configuration of the network `cost-volume`.

Field names are stored in the headers of checkpoints: renaming one breaks existing files.
"""

from dataclasses import dataclass, field

from recon.model.heads import GaussianHeadConfig
from recon.model.layers.pyramid import PyramidConfig


@dataclass(frozen=True)
class CostVolumeConfig:
    """Shape of the network; the defaults have the width and depth of the bundled weights.

    The numbers of planes and sources may differ between training and inference: no weight
    depends on them.
    """

    pyramid: PyramidConfig = field(default_factory=PyramidConfig)
    """Feature pyramid and the transformer over the tokens of all views."""
    sources: int = 4
    """Maximum number of source views that each view is matched with."""
    planes: int = 48
    """Depth hypotheses of the coarse stage, at 1/4 of the image size; a multiple of 4."""
    fine_planes: int = 12
    """Hypotheses of the fine stage, at 1/2, around the coarse depth; a multiple of 4."""
    direct_px: int = 320
    """Longest image side that the coarse stage works on (px). Larger images are processed coarse
    to fine: the network runs on a copy downsampled by 2 (recursively), whose depth replaces the
    coarse stage."""
    groups: int = 4
    """Groups of the group-wise correlation."""
    volume: int = 16
    """Channels of the 3D networks at full resolution."""
    fine_rounds: int = 1
    """Rounds of the fine stage, which share their weights: each centres its hypotheses on the
    depth of the round before and searches within its spread. 1 or more."""
    joint: bool = False
    """Also multiply the probabilities of the source views (as IDESplat, 2026)."""
    carry: bool = False
    """Give a round the log-density of the distribution before it, at every hypothesis."""
    evidence: bool = False
    """Give the decoder the photo's pixels, and the matching channels at the final depth."""
    feedback_rounds: int = 0
    """Rounds of correcting the Gaussians by the errors of their renders of the input views
    (`recon/model/error_feedback.py`); 0 builds the network without it."""
    recompute: bool = False
    """Recompute activations in the backward pass, to save memory."""
    head: GaussianHeadConfig = field(default_factory=GaussianHeadConfig)
    """Activations; `depth` must be disparity."""

    def __post_init__(self) -> None:
        if self.planes % 4 or self.fine_planes % 4:
            raise ValueError("planes and fine_planes must be multiples of 4")
        if self.head.depth != "disparity":
            raise ValueError("depth hypotheses are uniform in disparity: head.depth must be too")


SIZES = {
    "tiny": CostVolumeConfig(
        PyramidConfig((16, 16, 32), width=64, layers=2, heads=2),
        planes=16,
        fine_planes=8,
        volume=8,
        fine_rounds=2,
        joint=True,
        carry=True,
        evidence=True,
        feedback_rounds=1,
    ),
    "small": CostVolumeConfig(
        PyramidConfig((24, 48, 64), width=128, layers=4), planes=32, fine_planes=8
    ),
    "base": CostVolumeConfig(),
}
