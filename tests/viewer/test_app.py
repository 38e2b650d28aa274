"""The server listens on this machine only, serves no files, and stops."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from browsing import free_port
from helpers import look_at_cameras, random_gaussians, write_empty_ply
from viser import ClientHandle, GuiEvent

from recon import MissingDependency
from recon.cli.main import main
from recon.formats import save_gaussians
from render import Gaussians
from viewer import DisplaySettings, LiveViewer, Viewer, ViewerScene


@pytest.fixture()
def cloud(generator: torch.Generator) -> Gaussians:
    return random_gaussians(200, generator, degree=1, dtype=torch.float32)


@pytest.fixture()
def scene(cloud: Gaussians, tmp_path: Path) -> Path:
    save_gaussians(tmp_path / "a.ply", cloud)
    return tmp_path / "a.ply"


def fetch(address: str, path: str = "/") -> tuple[int, bytes]:
    """Send a path as it is and return the status code and the body."""
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        connection.sendall(request.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return int(answer.split()[1]), answer


def test_serves_on_this_machine_only(cloud: Gaussians) -> None:
    with Viewer([ViewerScene("a", cloud)], port=free_port()) as viewer:
        port = viewer.server.get_port()
        assert viewer.address == f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(viewer.address, timeout=10) as page:
            assert page.status == 200
        table = Path("/proc/net/tcp").read_text().splitlines()[1:]
        sockets = [line.split()[1].split(":") for line in table if line.split()[3] == "0A"]
        assert [host for host, at in sockets if int(at, 16) == port] == ["0100007F"]
        with Viewer([ViewerScene("b", cloud)], port=port) as second:
            assert second.server.get_port() != port
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(viewer.address, timeout=5)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("::1", "[::1]"), ("::", "[::1]"), ("0.0.0.0", "localhost"), ("localhost", "localhost")],
)
def test_addresses_open_in_a_browser(cloud: Gaussians, host: str, expected: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with Viewer([ViewerScene("a", cloud)], host=host, port=free_port()) as viewer:
        assert viewer.address == f"http://{expected}:{viewer.server.get_port()}"
        with urllib.request.urlopen(viewer.address, timeout=10) as page:
            assert page.status == 200


SETTINGS = DisplaySettings(
    coloring="depth", primitive="points", use_sh=False, min_opacity=0.3, max_size=0.1,
    background=(10, 20, 30), max_splats=50,
)  # fmt: skip


@pytest.mark.parametrize("settings", [SETTINGS, DisplaySettings()])
def test_display_panel_starts_from_the_given_settings(
    cloud: Gaussians, settings: DisplaySettings
) -> None:
    with Viewer([ViewerScene("a", cloud)], port=free_port(), settings=settings) as viewer:
        panel = viewer.panels.display
        assert panel.coloring.value == settings.coloring
        panel._on_change(GuiEvent(None, None, panel.coloring))
        assert viewer.state.settings == settings
        panel.min_opacity.value = 0.9
        panel._on_reset(GuiEvent(None, None, panel.reset))
        assert viewer.state.settings == settings and panel.min_opacity.value == settings.min_opacity


class FakeClient(ClientHandle):
    """Stands for a browser, and keeps what it is told and sent."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.files: list[str] = []
        self.camera = SimpleNamespace(
            wxyz=np.array([1.0, 0, 0, 0]),
            position=np.zeros(3),
            fov=1.0,
            image_width=64,
            image_height=48,
        )

    def add_notification(self, title: str, body: str, auto_close_seconds: float) -> None:
        self.told.append(body)

    def send_file_download(self, name: str, content: bytes, save_immediately: bool) -> None:
        self.files.append(name)


@pytest.mark.parametrize(
    "error", [MissingDependency("pip install 'recon[usd]'"), OSError("no space left")]
)
@pytest.mark.parametrize(
    ("panel", "writer"),
    [("edit", "save_gaussians"), ("image", "write_image"), ("path", "write_video")],
)
def test_errors_of_saving_are_told_in_the_browser(
    cloud: Gaussians, monkeypatch, panel: str, writer: str, error: Exception
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    client = FakeClient()
    with Viewer([ViewerScene("a", cloud)], port=free_port()) as viewer:
        monkeypatch.setattr(f"viewer.panels.{panel}.{writer}", fail)
        saving = getattr(viewer.panels, panel)
        if panel == "path":
            saving.views = [look_at_cameras(1, 64, 48, torch.float32)] * 2
            saving._on_video(GuiEvent(client, None, saving.video))
            assert not saving.progress.visible
        else:
            saving._on_save(GuiEvent(client, None, saving.save))
    assert client.told == [str(error)] and client.files == []


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../../../etc/passwd",
        "/..%2f..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/assets/../../../../_viser.py",
        "/..\\..\\..\\_viser.py",
    ],
)
def test_no_file_of_the_disk_is_served(cloud: Gaussians, path: str) -> None:
    with Viewer([ViewerScene("a", cloud)], port=free_port()) as viewer:
        status, answer = fetch(viewer.address, path)
    assert b"root:" not in answer and b"class ViserServer" not in answer
    assert status in (400, 403, 404)


def test_interrupt_stops_the_server(scene: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "recon", "view", str(scene), "--port", str(port)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        line = process.stdout.readline()
        assert f"a.ply: 200 Gaussians at http://127.0.0.1:{port} (press Ctrl-C to stop)" in line
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_taken_port_is_reported(scene: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: (_ for _ in ()).throw(KeyboardInterrupt))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SystemExit):
            main(["view", str(scene), "--port", str(port)])
    assert f"(port {port} is taken)" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, message",
    [
        (["missing.ply"], "scene not found: missing.ply"),
        (["broken.ply"], "broken.ply is not a PLY file"),
        (["a.ply", "--port", "70000"], "--port must be between 1 and 65535, found 70000"),
        (["a.ply", "--max-splats", "0"], "--max-splats must be at least 1"),
        (["a.ply", "a.ply", "--static", "page"], "--static writes a page of one scene"),
        (["a.ply", "--static", "."], "which would be lost"),
        (["a.ply", "--static", "site"], "contains index.html, which would be lost"),
        (["a.ply", "--static", "x" * 300], "File name too long; choose another output"),
        (["empty.ply"], "is empty"),
        ([], "missing SCENE"),
    ],
)
def test_bad_input(
    scene: Path, cloud: Gaussians, options: list[str], message: str, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(scene.parent)
    Path("broken.ply").write_bytes(b"no scene")
    write_empty_ply(Path("empty.ply"))
    Path("site").mkdir()
    Path("site/index.html").write_text("<p>somebody's own page</p>")
    with pytest.raises(SystemExit) as end:
        main(["view", *options])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_page(scene: Path, capsys) -> None:
    folder = scene.parent / "page"
    main(["view", str(scene), "--static", str(folder)])
    # An earlier page is replaced.
    with (folder / "index.html").open("a") as file:
        file.write("<!-- old -->")
    main(["view", str(scene), "--static", str(folder)])
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<!-- old -->" not in page
    assert "index.html: open it" in capsys.readouterr().out
    assert page.lstrip().lower().startswith("<!doctype html")
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    assert "<title>a.ply - recon</title>" in page


def test_live(cloud: Gaussians, capsys) -> None:
    with LiveViewer("run", port=free_port()) as live:
        live.update(cloud)
        live.update(cloud[torch.arange(50)])
        assert live.viewer is not None
        scene, port = live.viewer.state.scenes[0], live.viewer.server.get_port()
        assert len(scene.state.gaussians) == 50 and scene.version == 1
        assert live.viewer.address in capsys.readouterr().err
    # The port is free again.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))
