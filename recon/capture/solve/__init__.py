"""Cameras of photos that come without any."""

from recon.capture.solve.export import export_colmap as export_colmap
from recon.capture.solve.solver import SolveConfig as SolveConfig
from recon.capture.solve.solver import Solved as Solved
from recon.capture.solve.solver import solve_cameras as solve_cameras
