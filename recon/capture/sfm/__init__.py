"""Structure from motion: cameras of photos that come without any."""

from recon.capture.sfm.posed_capture import CameraSource as CameraSource
from recon.capture.sfm.posed_capture import PosedCapture as PosedCapture
from recon.capture.sfm.posed_capture import export_colmap as export_colmap
from recon.capture.sfm.solver import SolveConfig as SolveConfig
from recon.capture.sfm.solver import solve_cameras as solve_cameras
from recon.capture.sfm.solver import solved_before as solved_before
