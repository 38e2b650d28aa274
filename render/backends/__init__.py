"""Rasterizer backends: one semantics, tested against `reference`."""
