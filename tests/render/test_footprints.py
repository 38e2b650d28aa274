"""The finest camera of every point."""

import torch

from render import Cameras
from render.footprints import Footprints


def test_the_finest_camera_that_sees_a_point() -> None:
    """Two cameras on one axis; the one behind has the longer lens, too long to see the side."""
    viewmats = torch.eye(4).repeat(2, 1, 1)
    viewmats[1, 2, 3] = 1.0
    near = torch.tensor([[50.0, 0, 20], [0, 50.0, 20], [0, 0, 1]])
    far = torch.tensor([[200.0, 0, 20], [0, 200.0, 20], [0, 0, 1]])
    cameras = Cameras(viewmats, torch.stack([near, far]), 40, 40)
    points = torch.tensor([[0.0, 0.0, 2.0], [0.6, 0.0, 2.0], [0.0, 0.0, -5.0]])
    found = Footprints.of(points, cameras)
    assert found.camera.tolist() == [1, 0, 0]
    assert torch.allclose(found.size, torch.tensor([3 / 200, 2 / 50, 0.0]))
    assert torch.allclose(found.depth, torch.tensor([3.0, 2.0, 0.0]))
    assert torch.allclose(found.pixels[:2], torch.tensor([[20.0, 20.0], [35.0, 20.0]]))
