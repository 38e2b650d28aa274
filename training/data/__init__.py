"""Sources of training scenes: procedural, RealEstate10K, mesh files, captures, stored scenes."""
