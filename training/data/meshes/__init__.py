"""Mesh files (GLB, glTF, OBJ, such as Objaverse) as a source of training scenes.

They are loaded by trimesh, ray-cast by Embree to RGBA images with exact depth, and cached.
"""

from training.data.meshes.source import MeshesConfig as MeshesConfig
from training.data.meshes.source import MeshScenes as MeshScenes
