"""Chromium, driven by playwright, that cannot keep a test waiting for ever."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

# A browser that renders without a graphics card and makes no requests to the network.
FLAGS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--disable-dev-shm-usage",
]  # fmt: skip
# Tests with a browser take up to half a minute on two cores.
LIMIT_S = 600.0


def find() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Chromium:
    """Starts Chromium, and starts it again after it has ended."""

    def __init__(self, driver, executable: str) -> None:
        self.driver, self.executable = driver, executable
        self.browser = None

    @contextmanager
    def limited(self, seconds: float = LIMIT_S) -> Iterator:
        """Yield a running browser that is killed after some time.

        Playwright waits for new and for closing pages without a limit, also if the browser does not
        answer. What waits for a killed browser gets an error.
        """
        if self.browser is None or not self.browser.is_connected():
            self.browser = self.driver.chromium.launch(
                executable_path=self.executable, headless=True, args=FLAGS
            )
        timer = threading.Timer(seconds, kill)
        timer.daemon = True
        timer.start()
        try:
            yield self.browser
        finally:
            timer.cancel()


def kill() -> None:
    """Kill all browsers that this process has started."""
    for process in psutil.Process().children(recursive=True):
        try:
            if "chrom" in process.name():
                process.kill()
        except psutil.NoSuchProcess:
            pass
