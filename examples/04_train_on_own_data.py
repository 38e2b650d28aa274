"""Train a network on your own data: anything with a method `sample` is a source of scenes.

python examples/04_train_on_own_data.py assets/sample runs/own --steps 200
"""

import argparse
from pathlib import Path

import torch

import recon
from training import SampleRequest, Trainer, TrainingSample, read_config


class OwnData:
    """Random views of one capture; depth is unknown, so that images alone supervise."""

    def __init__(self, folder: Path, width: int) -> None:
        self.views = recon.load_views(folder, width)

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the context and the target views of one training scene."""
        order = torch.randperm(len(self.views), generator=request.generator())
        views = self.views[order[: request.views]]
        depth = torch.full_like(views.images[:, 0], torch.nan)
        near, far = torch.full((len(views),), 1.5), torch.full((len(views),), 8.0)
        return TrainingSample(views.images, views.cameras, depth, near, far)


def main() -> None:
    """Train the smallest network; the checkpoint is a model of `recon.reconstruct`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("capture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    options = parser.parse_args()
    changes = f"size=tiny dataset.width=64 dataset.height=48 optimiser.steps={options.steps}"
    config = read_config(None, [*changes.split(), f"out={options.out}"])
    Trainer(config, source=OwnData(options.capture, 64), report=print).train()


if __name__ == "__main__":
    main()
