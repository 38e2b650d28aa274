"""Triangle meshes of scenes: depth maps, their fusion, closed meshes, textures, files."""
