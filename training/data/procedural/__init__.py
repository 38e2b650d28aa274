"""Random training scenes, ray-cast on the fly: pure torch, any device, exact depth.

Deterministic: the same seed gives the same bytes on the same device.
"""

from training.data.procedural.sample import ProceduralConfig as ProceduralConfig
from training.data.procedural.sample import ProceduralScenes as ProceduralScenes
from training.data.procedural.sample import generate as generate
