"""Second floor: the live viewer in the browser."""

from viewer.app import Viewer as Viewer
from viewer.live import LiveViewer as LiveViewer
from viewer.look import Look as Look
from viewer.photos import Photos as Photos
from viewer.scene import ShownScene as ShownScene
from viewer.static import write_page as write_page
