"""Photos to 3D Gaussians.

Example:
    import recon

    scene = recon.reconstruct("photos/")
    scene.save("scene.ply")
"""

import importlib
from typing import TYPE_CHECKING, Any

from recon.errors import ConfigError as ConfigError
from recon.errors import InputError as InputError
from recon.errors import MissingDependency as MissingDependency
from recon.errors import ReconError as ReconError
from recon.errors import ReconWarning as ReconWarning
from recon.memory import tune_allocator as tune_allocator

__version__ = "0.1.0"

if TYPE_CHECKING:
    from recon.capture import Capture as Capture
    from recon.capture import load_capture as load_capture
    from recon.capture import load_views as load_views
    from recon.capture.sfm import PosedCapture as PosedCapture
    from recon.compression import compress as compress
    from recon.config import FusionConfig as FusionConfig
    from recon.config import OptimiseConfig as OptimiseConfig
    from recon.config import PoseConfig as PoseConfig
    from recon.config import ReconstructConfig as ReconstructConfig
    from recon.config import SimplifyConfig as SimplifyConfig
    from recon.config import ViewConfig as ViewConfig
    from recon.fusion.predict import remove_inconsistent as remove_inconsistent
    from recon.optimisation.loop import OptimiseResult as OptimiseResult
    from recon.optimisation.loop import optimise as optimise
    from recon.pipeline import estimate_cameras as estimate_cameras
    from recon.pipeline import finish_scene as finish_scene
    from recon.pipeline import predict as predict
    from recon.pipeline import reconstruct as reconstruct
    from recon.scene import Scene as Scene
    from recon.scene import load as load
    from recon.simplification.decimation import simplify as simplify
    from recon.types import Prediction as Prediction
    from recon.types import Views as Views

# Public name -> module. Imported on first use: torch takes seconds to import, and the command
# line's --help must not wait for it.
_LAZY = {
    "Capture": "recon.capture",
    "FusionConfig": "recon.config",
    "OptimiseConfig": "recon.config",
    "OptimiseResult": "recon.optimisation.loop",
    "PoseConfig": "recon.config",
    "PosedCapture": "recon.capture.sfm",
    "Prediction": "recon.types",
    "ReconstructConfig": "recon.config",
    "Scene": "recon.scene",
    "SimplifyConfig": "recon.config",
    "ViewConfig": "recon.config",
    "Views": "recon.types",
    "compress": "recon.compression",
    "estimate_cameras": "recon.pipeline",
    "finish_scene": "recon.pipeline",
    "load": "recon.scene",
    "load_capture": "recon.capture",
    "load_views": "recon.capture",
    "optimise": "recon.optimisation.loop",
    "predict": "recon.pipeline",
    "reconstruct": "recon.pipeline",
    "remove_inconsistent": "recon.fusion.predict",
    "simplify": "recon.simplification.decimation",
}
__all__ = [
    *sorted(_LAZY),
    "ConfigError",
    "InputError",
    "MissingDependency",
    "ReconError",
    "ReconWarning",
    "tune_allocator",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'recon' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__version__"])
