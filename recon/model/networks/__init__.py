"""Trainable networks: posed views in, one or more Gaussians per pixel out.

Each reads a normalised `ViewBatch` and returns a `NetworkOutput` (recon/model/api.py); names and
sizes are in recon/model/registry.py.
"""
