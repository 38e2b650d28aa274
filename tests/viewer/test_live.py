"""Commands with a live view, as users run them."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import SIZE, wait_for

from recon.formats import load_gaussians

pytestmark = pytest.mark.slow
ADDRESS = re.compile(r"live view at (http://127\.0\.0\.1:\d+)")


class Running:
    """A command in a process of its own, and its output."""

    def __init__(self, folder: Path, *command: str) -> None:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "recon", *command],
            cwd=folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.output = ""
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=120)
        self.reader.join(timeout=10)
        return code


@pytest.fixture()
def run(tmp_path: Path) -> Iterator:
    running = []

    def start(*command: str) -> Running:
        running.append(Running(tmp_path, *command))
        return running[-1]

    yield start
    for each in running:
        each.process.kill()


def open_page(browser, running: Running):
    """Open the page of a command and wait until it displays a scene."""
    page = browser.new_page(viewport=SIZE)
    wait_for(page, lambda: bool(ADDRESS.search(running.output)) or running.has_ended())
    address = ADDRESS.search(running.output)
    assert address is not None, running.output
    page.goto(address[1], wait_until="domcontentloaded")
    page.get_by_text("sent in").wait_for(timeout=240_000)
    return page


def test_interrupt_while_optimising(run, browser, sample: Path, tmp_path: Path) -> None:
    running = run(
        str(sample), "-o", "scene.ply", "--max-views", "2", "--resolution", "96",
        "--refine", "100000", "--viewer",
    )  # fmt: skip
    page = open_page(browser, running)
    assert "scene.ply (in progress)" in page.get_by_text("Gaussians").first.inner_text()
    page.close()
    assert running.interrupt() == 130
    assert "Traceback" not in running.output
    assert list(tmp_path.iterdir()) == []


def test_finished_scene_is_served(run, browser, sample: Path, tmp_path: Path) -> None:
    running = run(
        str(sample), "-o", "scene.ply", "--max-views", "2", "--resolution", "96",
        "--refine", "10", "--viewer",
    )  # fmt: skip
    waiting = browser.new_page(viewport=SIZE)
    wait_for(waiting, lambda: "still serving at" in running.output or running.has_ended())
    waiting.close()
    scene = load_gaussians(tmp_path / "scene.ply")
    page = open_page(browser, running)
    output = page.get_by_text("Gaussians").first.inner_text()
    assert f"scene.ply: {len(scene):,} Gaussians, " in output and "MB" in output
    page.close()
    assert running.interrupt() == 130
    assert "Traceback" not in running.output


def test_interrupt_while_training(run, browser) -> None:
    running = run(
        "train", "--viewer", "out=run", "network=cost-volume", "size=tiny", "dataset.width=64",
        "dataset.height=48", "dataset.batch=1", "optimiser.steps=100000", "validate_every=1",
        "validation_scenes=1",
    )  # fmt: skip
    page = open_page(browser, running)
    assert "run" in page.get_by_text("Gaussians").first.inner_text()
    page.close()
    assert running.interrupt() == 130
    assert "Traceback" not in running.output
