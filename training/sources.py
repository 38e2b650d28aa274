"""Sources of training scenes by name, and the mixture that a configuration asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from recon.errors import ConfigError
from training.config import DatasetConfig
from training.data.captures import CaptureScenes
from training.data.clips import RealEstate10KScenes
from training.data.meshes import MeshScenes
from training.data.procedural import ProceduralScenes
from training.data.procedural.bank import list_photos, make_bank
from training.data.types import SampleRequest, Source, TrainingSample


@dataclass(frozen=True)
class SourceContext:
    """Facts of the run that a source is built for."""

    photos: str
    """Folder of photos for textures; "" for none."""
    seed: int
    """Seed of the run."""
    device: str
    """Device of the training."""


SourceBuilder = Callable[[Any, SourceContext], Source]
"""Builds a source from its options (a dataclass, or the mapping of `dataset.custom`)."""


def _procedural(options: Any, context: SourceContext) -> Source:
    bank = make_bank(list_photos(context.photos), seed=context.seed)
    return ProceduralScenes(options, bank.to(torch.device(context.device)))


# A program may add its own: SOURCES["mine"] = build; options: dataset.custom.mine.
SOURCES: dict[str, SourceBuilder] = {
    "procedural": _procedural,
    "realestate10k": lambda options, context: RealEstate10KScenes(options),
    "meshes": lambda options, context: MeshScenes(options),
    "captures": lambda options, context: CaptureScenes(options),
}


@dataclass(frozen=True)
class Mixture:
    """A source that draws each scene from one of several sources, chosen by the scene's seed."""

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    """Relative frequency of each source."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the scene of the source that the request's seed selects."""
        weights = torch.tensor(self.weights)
        index = torch.multinomial(weights, 1, generator=request.generator())
        return self.sources[int(index)].sample(request)


def build_source(config: DatasetConfig, seed: int, device: str) -> Mixture:
    """Build the mixture of all sources whose weight is above 0.

    Args:
        config: Options and weight of every source; `config.custom` names additional entries of
            `SOURCES`.
        seed: Seed of the run.
        device: Device of the training.

    Raises:
        ConfigError: No weight is above 0, a name is unknown, or a source has no folder.
    """
    context = SourceContext(config.photos, seed, device)
    sources, weights = [], []
    for name, options in _options(config).items():
        weight = _weight(name, options)
        if weight <= 0:
            continue
        if getattr(options, "folder", None) == "":
            raise ConfigError(
                f"dataset.{name}.weight is {weight} but dataset.{name}.folder is not given; "
                f"add dataset.{name}.folder=FOLDER"
            )
        sources.append(SOURCES[name](options, context))
        weights.append(weight)
    if not sources:
        raise ConfigError("no source of scenes: set one of dataset.*.weight to a number above 0")
    return Mixture(tuple(sources), tuple(weights))


def _options(config: DatasetConfig) -> dict[str, Any]:
    """Return the options of every configured source, in the order of `SOURCES`."""
    unknown = [name for name in config.custom if name not in SOURCES or hasattr(config, name)]
    if unknown:
        added = [name for name in SOURCES if not hasattr(config, name)]
        raise ConfigError(
            f"dataset.custom.{unknown[0]}: no such source was added to training.sources.SOURCES; "
            f"added: {', '.join(added) or 'none'}"
        )
    found = {name: getattr(config, name, None) or config.custom.get(name) for name in SOURCES}
    return {name: options for name, options in found.items() if options is not None}


def _weight(name: str, options: Any) -> float:
    weight = options.get("weight") if isinstance(options, Mapping) else options.weight
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ConfigError(f"dataset.custom.{name}.weight must be a number, found {weight!r}")
    return float(weight)
