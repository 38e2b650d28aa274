"""Random training scenes of triangle meshes, ray-cast on the fly with exact depth.

Deterministic: the same request gives the same bytes.
"""

from training.data.procedural.sample import ProceduralConfig as ProceduralConfig
from training.data.procedural.sample import ProceduralScenes as ProceduralScenes
from training.data.procedural.sample import generate as generate
