"""What a training run is: one tree of dataclasses, overlaid by configs/*.yaml and key=value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from recon.errors import ConfigError
from recon.overlay import overlay
from training.data.captures import CapturesConfig
from training.data.clips import RealEstate10KConfig
from training.data.meshes import MeshesConfig
from training.data.procedural import ProceduralConfig
from training.losses import LossConfig


@dataclass(frozen=True)
class DataConfig:
    """Which scenes, and how many views of each go where."""

    width: int = 128
    """Of all pictures (px)."""
    height: int = 128
    """Of all pictures (px)."""
    context: tuple[int, int] = (2, 4)
    """Fewest and most views that go into the network; drawn anew for each step."""
    targets: int = 2
    """Views that are only rendered."""
    batch: int = 2
    """Scenes a step, over all processes and accumulated parts."""
    slack: float = 0.4
    """Near and far are moved outwards by up to this (in logarithm), or inwards by up to a quarter
    of it: at use they are only estimated."""
    photos: str = ""
    """Folder of pictures that become textures of procedural scenes beside the noise."""
    procedural: ProceduralConfig = field(default_factory=ProceduralConfig)
    """Endless scenes made on the fly."""
    realestate10k: RealEstate10KConfig = field(default_factory=RealEstate10KConfig)
    """Films of houses."""
    meshes: MeshesConfig = field(default_factory=MeshesConfig)
    """Objects."""
    captures: CapturesConfig = field(default_factory=CapturesConfig)
    """Whatever recon reads."""


@dataclass(frozen=True)
class CurriculumConfig:
    """From easy to what is configured, evenly over the first steps."""

    steps: int = 0
    """Steps until everything is as configured; 0 for from the start."""
    views: int = 2
    """Most context views at the start."""
    baseline: float = 0.5
    """Distance between views at the start, relative to what is configured."""
    resolution: float = 0.5
    """Sides of the pictures at the start, relative to what is configured."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and a cosine to zero (GS-LRM, Zhang et al. 2024, section 4.1)."""

    steps: int = 20_000
    """Length of the schedule (steps)."""
    lr: float = 4e-4
    """Highest learning rate."""
    warmup: int = 500
    """Steps until then."""
    beta1: float = 0.9
    """Decay of the mean gradient."""
    beta2: float = 0.95
    """Decay of its square."""
    weight_decay: float = 0.05
    """On matrices, not on norms."""
    accumulate: int = 1
    """Parts that a step's scenes are run in, one after the other, to save memory."""
    clip: float = 1.0
    """Largest norm of the whole gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, which are what is saved for use."""
    only: str = ""
    """Parameters whose names start with this learn, the others stay; "" for all."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    out: str = "runs/default"
    """Folder of checkpoints and measurements."""
    network: str = "cost-volume"
    """Network by name."""
    size: str = "base"
    """Its named size."""
    init: str = ""
    """Checkpoint whose weights the run starts from; "" for fresh ones."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration to change."""
    data: DataConfig = field(default_factory=DataConfig)
    """Scenes."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    """Easy scenes first."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """How to step."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What to make small."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the network; geometry and rendering are always float32."""
    seed: int = 0
    """Of weights and scenes."""
    licence: str = "Apache-2.0"
    """Written into the weights: what their data allows."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between lines."""
    tensorboard: bool = True
    """Also write what the lines say for tensorboard."""
    validate_every: int = 500
    """Steps between looks at scenes that are never trained on; 0 for none."""
    validation_scenes: int = 4
    """How many of those."""


def read_config(path: Path | None, assignments: Sequence[str]) -> TrainConfig:
    """The defaults with a YAML file and then `key.of.field=value` laid over; ReconError names
    what does not fit."""
    config = TrainConfig()
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text()) or {}
        except (OSError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"cannot read the training config {path}: {reason}") from None
        config = overlay(config, values, str(path))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: expected key=value, such as optimiser.lr=1e-4")
        config = overlay(config, _nested(key, _value(value)), "command line")
    return config


def _value(text: str) -> Any:
    """As YAML reads it, and 1e-4 as the number that it is for everyone but YAML."""
    value = yaml.safe_load(text)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _nested(key: str, value: Any) -> dict[str, Any]:
    first, dot, rest = key.partition(".")
    return {first: _nested(rest, value) if dot else value}
