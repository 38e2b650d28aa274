"""Sources of training scenes: procedural, RealEstate10K, mesh files and captures."""
