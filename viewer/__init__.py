"""The interactive viewer in the browser."""

from viewer.app import Viewer as Viewer
from viewer.display_settings import DisplaySettings as DisplaySettings
from viewer.live import LiveViewer as LiveViewer
from viewer.photos import Photos as Photos
from viewer.scene import ViewerScene as ViewerScene
from viewer.web_page import write_page as write_page
