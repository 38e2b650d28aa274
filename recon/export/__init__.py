"""Exports of scenes to what holds no Gaussians."""
