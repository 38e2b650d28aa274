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

import pytest
import torch
from browsing import free_port
from helpers import random_gaussians, write_empty_ply

from recon.cli.main import main
from recon.formats import save_gaussians
from render import Gaussians
from viewer import LiveViewer, Viewer, ViewerScene


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
    with pytest.raises(SystemExit) as end:
        main(["view", *options])
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_page(scene: Path, capsys) -> None:
    folder = scene.parent / "page"
    main(["view", str(scene), "--static", str(folder)])
    page = (folder / "index.html").read_text(encoding="utf-8")
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
