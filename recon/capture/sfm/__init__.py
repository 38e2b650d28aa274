"""Cameras of photos that come without any."""

from recon.capture.sfm.export import export_colmap as export_colmap
from recon.capture.sfm.solver import PosedCapture as PosedCapture
from recon.capture.sfm.solver import SolveConfig as SolveConfig
from recon.capture.sfm.solver import solve_cameras as solve_cameras
