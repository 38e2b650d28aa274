"""The viewer serves on this machine only, and stops."""

import socket
import urllib.request

import torch
from helpers import look_at_cameras, random_gaussians

from viewer.app import serve


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_serves_locally_and_stops(generator: torch.Generator) -> None:
    scene = random_gaussians(200, generator, degree=1, dtype=torch.float32)
    cameras = look_at_cameras(2, dtype=torch.float32)
    server = serve(scene, cameras, port=free_port())
    try:
        port = server.get_port()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=10) as page:
            assert page.status == 200
        assert server.get_host() == "127.0.0.1"
        second = serve(scene, None, port=port)
        assert second.get_port() != port
        second.stop()
    finally:
        server.stop()
