"""First floor of recon: photos become 3D Gaussians.

import recon
scene = recon.reconstruct("photos/")
"""

from typing import TYPE_CHECKING, Any

from recon.errors import ReconError as ReconError
from recon.settings import ReconstructSettings as ReconstructSettings

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recon.pipeline import Scene as Scene
    from recon.pipeline import reconstruct as reconstruct


def __getattr__(name: str) -> Any:
    # torch takes seconds to import: the command line's --help must not wait for it.
    if name in ("reconstruct", "Scene"):
        from recon import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module 'recon' has no attribute {name!r}")
