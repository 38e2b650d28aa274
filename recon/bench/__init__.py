"""Benchmarks behind `recon bench`: scenes of our own making, timed the same way everywhere."""
