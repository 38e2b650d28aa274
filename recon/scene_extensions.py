"""Extensions of the scene files that recon reads and writes, importable without torch.

Point clouds are written only (see `recon.export.point_cloud`).

Help texts need the names alone; everything else about a format is in `recon.formats.registry`,
and a test compares the two.
"""

SCENE_EXTENSIONS = (
    ".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb", ".usdc", ".usda", ".usdz",
)  # fmt: skip
SCENE_EXTENSIONS_TEXT = ", ".join(SCENE_EXTENSIONS)
POINT_CLOUD_EXTENSIONS = (".points.ply", ".xyz", ".las", ".laz")
POINT_CLOUD_EXTENSIONS_TEXT = ", ".join(POINT_CLOUD_EXTENSIONS)


def is_point_cloud(name: str) -> bool:
    """Return whether a file name is that of a point cloud, and not of a scene."""
    return name.lower().endswith(POINT_CLOUD_EXTENSIONS)
