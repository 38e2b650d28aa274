"""Configuration of a training run: dataclasses, overlaid by configs/*.yaml and key=value."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from recon.errors import ConfigError
from recon.model.registry import named_size
from recon.overlay import overlay
from training.bounds import check_bounds, check_network_bounds
from training.data.captures import CapturesConfig
from training.data.clips import RealEstate10KConfig
from training.data.meshes import MeshesConfig
from training.data.procedural import ProceduralConfig
from training.data.shards import ShardsConfig
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
    shards: ShardsConfig = field(default_factory=ShardsConfig)
    """Scenes in tar files that `recon data` has written."""
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
    complexity: float = 0.3
    """Number of things in procedural scenes at the start, relative to the full one."""
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
    """Precision of the network; geometry and rendering are always float32, and so is all of it on
    processors that emulate bf16."""
    seed: int = 0
    """Seed of the initial weights and the scenes."""
    licence: str = "Apache-2.0"
    """Licence of the weights, written into the checkpoint: depends on the training data."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the training; auto takes a GPU if there is one."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """How several processes hold the network: ddp: each all of it; fsdp: its weights, gradients and
    moments are sharded over them (FSDP2). Both resume each other's states."""
    compile: bool = False
    """Compile the transformer blocks by torch.compile. What has other shapes, or calls the
    rasterizer, stays as it is, so that there are no graph breaks."""
    workers: int = 0
    """Number of processes that make the scenes of the next steps in advance; 0 makes each step's
    scenes when it begins, on the device of the training. The scenes are the same."""
    save_every: int = 500
    """Steps between checkpoints."""
    save_minutes: float = 2.0
    """Maximum time between checkpoints (minutes); 0 saves every step."""
    log_every: int = 20
    """Steps between log lines."""
    tensorboard: bool = True
    """Also log to tensorboard."""
    wandb: bool = False
    """Also log to Weights & Biases, without a network; `wandb sync` uploads the folder wandb/."""
    validate_every: int = 500
    """Steps between validations on scenes that are held out; 0 disables validation."""
    validation_scenes: int = 4
    """Number of validation scenes."""


def network_config(config: TrainConfig) -> Any:
    """Return the network's configuration: its named size with `config.changes` laid over.

    Raises:
        ConfigError: The network, its size or a changed field is unknown, or a value is wrong.
    """
    try:
        changed = overlay(named_size(config.network, config.size), config.changes, "changes")
    except ValueError as error:
        raise ConfigError(f"changes: {error}; found {config.changes}") from None
    if config.changes:
        check_network_bounds(changed)
    return changed


def check_config(config: TrainConfig) -> None:
    """Check that the numbers of a configuration are in their ranges, and that it has a folder.

    Raises:
        ConfigError: A value is wrong; the message names the field.
    """
    if not config.out:
        raise ConfigError("out must be the folder of the run, found nothing; set out=FOLDER")
    check_bounds(config)
    clips = config.dataset.realestate10k
    if clips.near >= clips.far:
        raise ConfigError(
            f"dataset.realestate10k.near must be below far, found {clips.near} and {clips.far}"
        )


def read_config(path: Path | None, assignments: Sequence[str]) -> TrainConfig:
    """Read a YAML file and `key.of.field=value` assignments, laid over the defaults in this order.

    Raises:
        ConfigError: A key is unknown or a value has the wrong type; the message names it.
    """
    config = TrainConfig()
    if path is not None:
        values = read_yaml(path)
        if "stages" in values:
            raise ConfigError(
                f"{path} has several stages: run it by python -m training.campaign --config {path}"
            )
        config = overlay_config(config, values, str(path))
    for assignment in assignments:
        config = overlay_config(config, parse_assignment(assignment), "command line")
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the named values of a YAML file.

    Raises:
        ConfigError: The file cannot be read or holds something else.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = error.strerror if isinstance(error, OSError) else yaml_problem(error)
        raise ConfigError(f"cannot read the training config {path}: {reason}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the file must hold named values, found {values!r}")
    return values


def yaml_problem(error: Exception) -> str:
    """Return the problem of a text that is not YAML, and the line where it is."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def parse_assignment(assignment: str) -> dict[str, Any]:
    """Parse `key.of.field=value` to nested mappings; raise ConfigError if it is wrong."""
    key, equals, value = assignment.partition("=")
    if not equals:
        raise ConfigError(f"{assignment!r}: expected key=value, such as optimiser.lr=1e-4")
    try:
        return _nested(key, _value(value))
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{assignment!r}: the value is not YAML: {yaml_problem(error)}; expected such as "
            "optimiser.lr=1e-4, dataset.context=[2,4] or changes={layers: 2}"
        ) from None


def overlay_config(config: TrainConfig, values: Any, where: str) -> TrainConfig:
    """Lay values over the configuration; a key of an earlier version gives its present name.

    Raises:
        ConfigError: A key is unknown or a value has the wrong type; the message names it.
    """
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
