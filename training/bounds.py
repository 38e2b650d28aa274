"""The values that the numbers of a configuration may have, as tables of their fields' names."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from recon.errors import ConfigError
from render.sh import MAX_DEGREE


@dataclass(frozen=True)
class Bounds:
    """Smallest and largest value of a number, of both of a pair, or of all values of a mapping."""

    low: int | float = 0
    high: int | float = math.inf
    open_low: bool = False
    """Whether the smallest value itself is too small."""
    open_high: bool = False
    """Whether the largest value itself is too large."""

    def problem(self, value: Any) -> str | None:
        """Return what a number must be, or None if it is that."""
        above = self.low < value if self.open_low else self.low <= value
        # No number may be infinite.
        below = value < self.high if self.open_high or self.high == math.inf else value <= self.high
        if above and below:
            return None
        if not math.isfinite(value):
            return "finite"
        low = f"{'above' if self.open_low else 'at least'} {self.low}"
        high = f"{'below' if self.open_high else 'at most'} {self.high}"
        return low if self.high == math.inf else f"{low} and {high}"


ANY, COUNT, POSITIVE = Bounds(), Bounds(1), Bounds(0, open_low=True)
FRACTION, DECAY = Bounds(0, 1), Bounds(0, 1, open_high=True)
PART = Bounds(0, 1, open_low=True)

# Numbers of `TrainConfig`; the weights of losses are checked in `losses.py`.
BOUNDS: dict[str, Bounds] = {
    "seed": Bounds(0, 2**63 - 1), "workers": ANY, "save_every": COUNT, "save_minutes": ANY,
    "log_every": COUNT, "validate_every": ANY, "validation_scenes": COUNT,
    "dataset.width": Bounds(8), "dataset.height": Bounds(8), "dataset.context": COUNT,
    "dataset.targets": ANY, "dataset.batch": COUNT, "dataset.slack": Bounds(0, 5),
    "dataset.procedural.weight": ANY, "dataset.procedural.supersampling": COUNT,
    "dataset.procedural.exposure": ANY, "dataset.procedural.noise": ANY,
    "dataset.realestate10k.weight": ANY, "dataset.realestate10k.gap": COUNT,
    "dataset.realestate10k.near": POSITIVE, "dataset.realestate10k.far": POSITIVE,
    "dataset.meshes.weight": ANY, "dataset.meshes.rendered": COUNT,
    "dataset.meshes.neighbours": COUNT, "dataset.meshes.held_out": ANY,
    "dataset.realestate10k.held_out": Bounds(0, 0.5),
    "dataset.captures.weight": ANY, "dataset.captures.weights": ANY,
    "dataset.captures.angles_deg": Bounds(0, 180), "dataset.captures.neighbours": COUNT,
    "dataset.captures.smallest": PART, "dataset.captures.color": ANY,
    "dataset.stored.weight": ANY, "dataset.stored.scenes": ANY, "dataset.stored.held_out": ANY,
    "dataset.shards.weight": ANY, "dataset.shards.held_out": ANY,
    "dataset.shards.neighbours": COUNT,
    "curriculum.steps": ANY, "curriculum.views": COUNT, "curriculum.baseline": POSITIVE,
    "curriculum.complexity": FRACTION, "curriculum.resolution": PART,
    "optimiser.steps": COUNT, "optimiser.lr": ANY, "optimiser.warmup": ANY,
    "optimiser.beta1": DECAY, "optimiser.beta2": DECAY, "optimiser.weight_decay": ANY,
    "optimiser.accumulate": COUNT, "optimiser.clip": POSITIVE, "optimiser.ema": FRACTION,
}  # fmt: skip
# Examples of pairs, which are a minimum and a maximum.
PAIRS = {
    "dataset.context": "[2, 4]",
    "dataset.realestate10k.gap": "[25, 45]",
    "dataset.captures.angles_deg": "[1.5, 25]",
}
# Numbers of networks by the last part of their names; others are not limited.
NETWORK_BOUNDS = {
    "sh_degree": Bounds(0, MAX_DEGREE),
    **dict.fromkeys(("anchors", "feedback_rounds", "layers", "fine_layers"), ANY),
    **dict.fromkeys((
        "width", "merged_width", "heads", "patch", "channels", "sources", "planes", "fine_planes",
        "direct_px", "groups", "volume", "fine_rounds", "rounds", "samples", "buckets", "gaussians",
    ), COUNT),
    **dict.fromkeys(("opacity_exponent", "scale_max", "scale_min_px", "scale_max_px"), POSITIVE),
}  # fmt: skip


def check_bounds(config: Any) -> None:
    """Check the numbers of a `TrainConfig` that `BOUNDS` names.

    Raises:
        ConfigError: A number is too small, too large or infinite; the message names the field.
    """
    for name, value in numbered(config):
        bounds = BOUNDS.get(name)
        if bounds is None:
            continue
        example = PAIRS.get(name)
        if example is not None and value[0] > value[1]:
            raise ConfigError(
                f"{name} must be a minimum and a maximum, such as {example}, found {list(value)}"
            )
        check_number(name, value, bounds)


def check_network_bounds(config: Any) -> None:
    """Check the numbers of a network's configuration that `NETWORK_BOUNDS` names.

    Raises:
        ConfigError: A number is too small or too large; the message names the field.
    """
    for name, value in numbered(config):
        bounds = NETWORK_BOUNDS.get(name.rpartition(".")[2])
        if bounds is not None:
            check_number(f"changes.{name}", value, bounds)


def numbered(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the names and values of all fields that are or hold numbers."""
    for each in fields(config):
        name, value = f"{prefix}{each.name}", getattr(config, each.name)
        if is_dataclass(value):
            yield from numbered(value, f"{name}.")
        elif all(_is_number(part) for part in _parts(value)):
            yield name, value


def check_number(name: str, value: Any, bounds: Bounds) -> None:
    """Check a number, a list or a mapping of numbers.

    Raises:
        ConfigError: One is too small, too large or infinite; the message begins with the name.
    """
    for part in _parts(value):
        if (expected := bounds.problem(part)) is not None:
            found = list(value) if isinstance(value, tuple) else value
            raise ConfigError(f"{name} must be {expected}, found {found}")


def _parts(value: Any) -> tuple[Any, ...]:
    """Return the values of a list or a mapping, or the value itself."""
    if isinstance(value, Mapping):
        return tuple(value.values())
    return value if isinstance(value, tuple) else (value,)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
