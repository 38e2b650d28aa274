"""Trainable networks: posed views in, Gaussians out."""
