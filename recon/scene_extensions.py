"""Extensions of the scene files that recon reads and writes, importable without torch.

Help texts need the names alone; everything else about a format is in `recon.formats.registry`,
and a test compares the two.
"""

SCENE_EXTENSIONS = (".ply", ".compressed.ply", ".splat", ".spz", ".sog", ".glb")
SCENE_EXTENSIONS_TEXT = ", ".join(SCENE_EXTENSIONS)
