"""Simplification of scenes: pruning, merging, and ordering by importance."""
