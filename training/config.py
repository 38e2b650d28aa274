"""Configuration of a training run: dataclasses, overlaid by configs/*.yaml and key=value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from recon.errors import ConfigError
from recon.model.registry import named_size
from recon.overlay import overlay
from training.data.captures import CapturesConfig
from training.data.clips import RealEstate10KConfig
from training.data.meshes import MeshesConfig
from training.data.procedural import ProceduralConfig
from training.data.stored import StoredConfig
from training.losses import LossConfig


@dataclass(frozen=True)
class DatasetConfig:
    """Sources of the scenes, and the views and images of each scene."""

    width: int = 128
    """Image width (px)."""
    height: int = 128
    """Image height (px)."""
    context: tuple[int, int] = (2, 4)
    """Minimum and maximum number of context views; drawn anew for each step."""
    targets: int = 2
    """Number of target views: rendered and compared, not given to the network."""
    batch: int = 2
    """Scenes per step, over all processes and accumulated parts."""
    slack: float = 0.4
    """Jitter of near and far (natural logarithm): each moves outwards by up to this, or inwards by
    up to a quarter of it, since at inference they are only estimated."""
    photos: str = ""
    """Folder of photos that become textures of procedural scenes, besides noise."""
    procedural: ProceduralConfig = field(default_factory=ProceduralConfig)
    """Random scenes, generated on the fly."""
    realestate10k: RealEstate10KConfig = field(default_factory=RealEstate10KConfig)
    """Clips of RealEstate10K."""
    meshes: MeshesConfig = field(default_factory=MeshesConfig)
    """Renders of mesh files."""
    captures: CapturesConfig = field(default_factory=CapturesConfig)
    """Posed photos in any format that recon reads."""
    stored: StoredConfig = field(default_factory=StoredConfig)
    """Scenes that `python -m training.data.store` has written."""
    custom: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Options of sources that a program added to `training.sources.SOURCES`, by name; each needs a
    `weight`."""


@dataclass(frozen=True)
class CurriculumConfig:
    """Easier scenes at first, approaching the configured ones linearly."""

    steps: int = 0
    """Steps until the configured values are reached; 0 disables the curriculum."""
    views: int = 2
    """Maximum number of context views at the start."""
    baseline: float = 0.5
    """Distance between views at the start, relative to the configured one."""
    resolution: float = 0.5
    """Image sides at the start, relative to the configured ones."""


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with warm-up and cosine decay to zero (GS-LRM, Zhang et al. 2024, section 4.1)."""

    steps: int = 20_000
    """Length of the schedule (steps)."""
    lr: float = 4e-4
    """Peak learning rate."""
    warmup: int = 500
    """Steps of the linear warm-up."""
    beta1: float = 0.9
    """Decay of the running mean of the gradient."""
    beta2: float = 0.95
    """Decay of the running mean of the squared gradient."""
    weight_decay: float = 0.05
    """Weight decay of matrices; vectors (biases, norms) have none."""
    accumulate: int = 1
    """Number of parts into which a step's scenes are split; they run one after the other to save
    memory."""
    clip: float = 1.0
    """Maximum norm of the whole gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, which are the ones saved for inference."""
    only: str = ""
    """Prefix of the names of the parameters to train, with all others frozen; "" trains all."""


@dataclass(frozen=True)
class TrainConfig:
    """A training run."""

    out: str = "runs/default"
    """Folder of checkpoints and metrics."""
    network: str = "cost-volume"
    """Name of the network."""
    size: str = "base"
    """Named size of the network."""
    init: str = ""
    """Checkpoint with the initial weights; "" for random ones."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the network's configuration that differ from the named size."""
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    """Training scenes."""
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    """Easier scenes first."""
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    """Optimiser and schedule."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Weights of the loss terms."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the network; geometry and rendering are always float32."""
    seed: int = 0
    """Seed of the initial weights and the scenes."""
    licence: str = "Apache-2.0"
    """Licence of the weights, written into the checkpoint: depends on the training data."""
    save_every: int = 500
    """Steps between checkpoints."""
    log_every: int = 20
    """Steps between log lines."""
    tensorboard: bool = True
    """Also log to tensorboard."""
    validate_every: int = 500
    """Steps between validations on scenes that are never trained on; 0 disables validation."""
    validation_scenes: int = 4
    """Number of validation scenes."""


def network_config(config: TrainConfig) -> Any:
    """Return the network's configuration: its named size with `config.changes` laid over.

    Raises:
        ConfigError: The network, its size or a changed field is unknown.
    """
    return overlay(named_size(config.network, config.size), config.changes, "changes")


def read_config(path: Path | None, assignments: Sequence[str]) -> TrainConfig:
    """Read a YAML file and `key.of.field=value` assignments, laid over the defaults in this order.

    Raises:
        ConfigError: A key is unknown or a value has the wrong type; the message names it.
    """
    config = TrainConfig()
    if path is not None:
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = str(error).splitlines()[0]
            raise ConfigError(f"cannot read the training config {path}: {reason}") from None
        config = _overlay(config, values, str(path))
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r}: expected key=value, such as optimiser.lr=1e-4")
        config = _overlay(config, _nested(key, _value(value)), "command line")
    return config


def _overlay(config: TrainConfig, values: Any, where: str) -> TrainConfig:
    """Lay values over the configuration; a key of an earlier version gives its present name."""
    if isinstance(values, dict):
        if "data" in values:
            raise ConfigError(f"{where}: the key data is now called dataset")
        dataset = values.get("dataset")
        for name, options in dataset.items() if isinstance(dataset, dict) else ():
            if isinstance(options, dict) and "share" in options:
                raise ConfigError(
                    f"{where}: the key dataset.{name}.share is now called dataset.{name}.weight"
                )
    return overlay(config, values, where)


def _value(text: str) -> Any:
    """Parse a value as YAML, and also 1e-4, which YAML takes for a string, as a number."""
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
