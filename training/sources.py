"""Sources of training scenes by name, and the mixture that a configuration asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from recon.errors import ConfigError
from training.bounds import ANY, check_number
from training.config import DatasetConfig
from training.data.captures import CaptureScenes
from training.data.clips import RealEstate10KScenes, check_context
from training.data.meshes import MeshScenes
from training.data.procedural import ProceduralScenes
from training.data.procedural.bank import list_photos, make_bank
from training.data.shards import ShardScenes
from training.data.stored import StoredScenes
from training.data.types import SampleRequest, Source, TrainingSample


@dataclass(frozen=True)
class SourceContext:
    """Facts of the run that a source may need."""

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
    return ProceduralScenes(options, bank)


# A program may add its own: SOURCES["mine"] = build; options: dataset.custom.mine.
SOURCES: dict[str, SourceBuilder] = {
    "procedural": _procedural,
    "realestate10k": lambda options, context: RealEstate10KScenes(options),
    "meshes": lambda options, context: MeshScenes(options),
    "captures": lambda options, context: CaptureScenes(options),
    "shards": lambda options, context: ShardScenes(options),
    "stored": lambda options, context: StoredScenes(options),
}


@dataclass(frozen=True)
class Mixture:
    """A source that draws each scene from one of several sources, chosen by the scene's seed."""

    sources: tuple[Source, ...]
    weights: tuple[float, ...]
    """Relative frequency of each source."""
    names: tuple[str, ...] = ()
    """Names of the sources, for messages; by default those of their classes."""

    def sample(self, request: SampleRequest) -> TrainingSample:
        """Return the scene of the source that the request's seed selects."""
        return self.sources[self.index_of(request)].sample(request)

    def index_of(self, request: SampleRequest) -> int:
        """Return the index of the source that the request's seed selects."""
        weights = torch.tensor(self.weights)
        return int(torch.multinomial(weights, 1, generator=request.generator()))

    @property
    def all_names(self) -> tuple[str, ...]:
        """Name of each source."""
        return self.names or tuple(type(source).__name__ for source in self.sources)

    def __str__(self) -> str:
        fractions = [100 * weight / sum(self.weights) for weight in self.weights]
        named = zip(self.all_names, fractions, strict=True)
        return ", ".join(f"{name} {percent:.3g} %" for name, percent in named)


def source_name(source: Source, request: SampleRequest) -> str:
    """Return the name of the source that yields the scene of a request."""
    if isinstance(source, Mixture):
        return source.all_names[source.index_of(request)]
    return type(source).__name__


def describe_source(source: Source) -> str:
    """Return the sources of a mixture and their fractions, or the name of a source's class."""
    return str(source) if isinstance(source, Mixture) else type(source).__name__


def build_source(config: DatasetConfig, seed: int, device: str) -> Mixture:
    """Build the mixture of all sources whose weight is above 0.

    Args:
        config: Options and weight of every source; `config.custom` names additional entries of
            `SOURCES`.
        seed: Seed of the run.
        device: Device of the training.

    Raises:
        ConfigError: No weight is above 0, a name is unknown, or a source has no folder or too few
            context views.
    """
    context = SourceContext(config.photos, seed, device)
    sources, weights, names = [], [], []
    for name, options in _options(config).items():
        weight = _weight(name, options)
        if weight <= 0:
            continue
        if getattr(options, "folder", None) == "":
            raise ConfigError(
                f"dataset.{name}.weight is {weight} but dataset.{name}.folder is not given; "
                f"add dataset.{name}.folder=FOLDER"
            )
        if name == "realestate10k":
            check_context(config.context[0])
        sources.append(SOURCES[name](options, context))
        weights.append(weight)
        names.append(name)
    if not sources:
        raise ConfigError("no source of scenes: set one of dataset.*.weight to a number above 0")
    return Mixture(tuple(sources), tuple(weights), tuple(names))


def _options(config: DatasetConfig) -> dict[str, Any]:
    """Return the options of every configured source, in the order of `SOURCES`."""
    unknown = [name for name in config.custom if name not in SOURCES or hasattr(config, name)]
    if unknown:
        added = [name for name in SOURCES if not hasattr(config, name)]
        raise ConfigError(
            f"dataset.custom.{unknown[0]}: no such source was added to training.SOURCES; "
            f"added: {', '.join(added) or 'none'}; a program must add it before it calls recon "
            "train, see 'Sources and losses by name' in docs/training.md"
        )
    found = {name: getattr(config, name, None) or config.custom.get(name) for name in SOURCES}
    return {name: options for name, options in found.items() if options is not None}


def _weight(name: str, options: Any) -> float:
    if isinstance(options, Mapping) and "weight" not in options:
        given = ", ".join(map(str, options)) or "nothing"
        raise ConfigError(f"dataset.custom.{name} has no weight (has: {given})")
    weight = options["weight"] if isinstance(options, Mapping) else options.weight
    if not isinstance(weight, int | float) or isinstance(weight, bool):
        raise ConfigError(f"dataset.custom.{name}.weight must be a number, found {weight!r}")
    check_number(f"dataset.{name}.weight", weight, ANY)
    return float(weight)
