"""Differentiable rendering: images of 3D Gaussians and cameras.

The lowest layer: it imports neither recon nor training. `rasterize` is the entry point.
"""

from render.cameras import Cameras as Cameras
from render.cameras import look_at as look_at
from render.contributions import Contributions as Contributions
from render.contributions import measure_contributions as measure_contributions
from render.gaussians import Gaussians as Gaussians
from render.gradients import GradientRender as GradientRender
from render.rasterize import rasterize as rasterize
from render.sh import colors_to_sh as colors_to_sh
from render.sh import sh_to_colors as sh_to_colors
from render.sim3 import Sim3 as Sim3
from render.tensors import TensorStruct as TensorStruct
from render.types import BackendUnavailable as BackendUnavailable
from render.types import OutOfMemory as OutOfMemory
from render.types import RasterizeSettings as RasterizeSettings
from render.types import RenderOutput as RenderOutput
