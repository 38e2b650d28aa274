"""A source of training scenes that takes no time: random pixels and depths."""

from collections.abc import Iterator

import pytest
import torch

from render import Cameras
from training.data.types import SampleRequest, TrainingSample
from training.sources import SOURCES


class NoiseScenes:
    """Views side by side, whose pixels are random."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        v, h, w = request.views, request.height, request.width
        draw = request.generator()
        poses = torch.eye(4).repeat(v, 1, 1)
        poses[:, 0, 3] = torch.rand(v, generator=draw)
        return TrainingSample(
            torch.rand(v, 3, h, w, generator=draw),
            Cameras.from_fov(poses, fov_deg=60.0, width=w, height=h),
            1 + torch.rand(v, h, w, generator=draw),
            torch.ones(v),
            torch.full((v,), 2.0),
        )


@pytest.fixture(scope="module", autouse=True)
def noise_source() -> Iterator[None]:
    """Add the source by name for the tests of the module that imports this fixture."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SOURCES, "noise", lambda options, context: NoiseScenes())
        yield
