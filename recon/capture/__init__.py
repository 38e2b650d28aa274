"""Captures of users, read into one type: photos, videos, transforms.json, COLMAP, LLFF."""

from recon.capture.cameras import pinhole_cameras as pinhole_cameras
from recon.capture.cameras import select_spread as select_spread
from recon.capture.readers import load_capture as load_capture
from recon.capture.save import write_transforms as write_transforms
from recon.capture.types import Capture as Capture
from recon.capture.types import Frame as Frame
from recon.capture.types import FrameCamera as FrameCamera
from recon.capture.views import load_views as load_views
