"""Fusion: one scene from the predictions of many views, in groups of constant size."""
