"""Meshes (GLB, OBJ: Objaverse, furniture) as a source of training scenes: loaded by trimesh,
ray-cast by Embree into RGBA pictures with exact depth, cached."""

from training.data.meshes.source import MeshesConfig as MeshesConfig
from training.data.meshes.source import MeshScenes as MeshScenes
