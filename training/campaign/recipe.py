"""The file of a campaign: fields that all stages have in common, and a list of stages."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from recon.errors import ConfigError
from recon.overlay import merge_mappings, overlay
from training.config import (
    TrainConfig,
    check_config,
    network_config,
    overlay_config,
    parse_assignment,
    read_yaml,
)
from training.data.types import hashed_seed

Start = Literal["averaged", "raw"]


@dataclass(frozen=True)
class ScoresConfig:
    """When and on what the averaged weights are evaluated; the captures are never trained on."""

    suite: str = ""
    """Suite file of `recon eval`; "" for no evaluation."""
    only: tuple[str, ...] = ()
    """Cases of the suite, as capture or capture/split; all if there are none."""
    resolution: int = 256
    """Long side at which photos are used (px)."""
    every: int = 0
    """Steps between evaluations, besides the one at the end of a stage; 0 for the end alone."""


@dataclass(frozen=True)
class Stage:
    """One run of a campaign."""

    name: str
    """Name of the stage, and of its folder in that of the campaign."""
    start: Start
    """Which weights of the previous stage it starts from: their average or the last ones."""
    config: TrainConfig
    """Configuration of the run."""

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return Path(self.config.out)

    @property
    def scenes(self) -> int:
        """Number of scenes of the whole stage."""
        return self.config.optimiser.steps * self.config.dataset.batch


@dataclass(frozen=True)
class Recipe:
    """A campaign."""

    out: Path
    """Folder of the campaign."""
    stages: tuple[Stage, ...]
    """Runs, one after the other."""
    evaluate: ScoresConfig
    """Evaluation during the campaign."""
    attributions: tuple[str, ...]
    """Licences and authors of the data, one a line, for the header of the weights."""

    def scenes_before(self, stage: Stage) -> int:
        """Return the number of scenes of all stages before one."""
        names = [each.name for each in self.stages]
        return sum(each.scenes for each in self.stages[: names.index(stage.name)])

    def with_config(self, stage: Stage, config: TrainConfig) -> "Recipe":
        """Return the campaign with another configuration of a stage."""
        stages = (replace(s, config=config) if s.name == stage.name else s for s in self.stages)
        return replace(self, stages=tuple(stages))


def read_recipe(
    path: Path, assignments: Sequence[str] = (), common: Mapping[str, Any] | None = None
) -> Recipe:
    """Read the file of a campaign.

    Its keys are those of a training run, common to all stages, and `stages`, `evaluate` (fields of
    `ScoresConfig`) and `attributions`. A stage has a `name`, a `start` (averaged or raw) and fields
    laid over the common ones. Every stage has a seed of its own, so that adding a stage changes no
    other.

    Args:
        path: YAML file.
        assignments: `key.of.field=value`, laid over every stage; `stages.NAME.key=value` over one,
            `evaluate.key=value` over the evaluation.
        common: More fields laid over every stage, before `assignments`.

    Raises:
        ConfigError: A key is unknown, a value is wrong, or there are no stages.
    """
    document = read_yaml(path)
    listed = document.pop("stages", None)
    evaluate = overlay(ScoresConfig(), document.pop("evaluate", {}), f"{path}: evaluate")
    attributions = tuple(map(str, document.pop("attributions", ())))
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{path}: stages must be a list of at least one stage, found {listed!r}")
    changes = _Changes(assignments, common or {})
    base = overlay_config(TrainConfig(), document, str(path))
    out = Path(changes.everywhere.get("out", base.out))
    stages = [_stage(entry, base, f"{path}: stages", changes) for entry in listed]
    names = [stage.name for stage in stages]
    for name in (*changes.single, *names):
        if names.count(name) != 1:
            found = "there are two" if name in names else f"there are {', '.join(names)}"
            raise ConfigError(f"{path}: expected one stage {name!r}; {found}")
    if len({stage.config.precision for stage in stages}) > 1:
        raise ConfigError(f"{path}: precision must be the same in all stages")
    placed = [
        replace(s, config=replace(s.config, out=str(out / s.name), init="" if i else s.config.init))
        for i, s in enumerate(stages)
    ]
    evaluate = overlay(evaluate, changes.evaluate, "command line: evaluate")
    return Recipe(out, tuple(placed), evaluate, attributions)


class _Changes:
    """Fields changed on the command line: of every stage, of single stages, of the evaluation."""

    def __init__(self, assignments: Sequence[str], common: Mapping[str, Any]) -> None:
        self.everywhere, self.evaluate = dict(common), dict[str, Any]()
        self.single: dict[str, dict[str, Any]] = {}
        for assignment in assignments:
            values = parse_assignment(assignment)
            for name, changes in values.pop("stages", {}).items():
                self.single[name] = merge_mappings(self.single.get(name, {}), changes)
            self.evaluate |= values.pop("evaluate", {})
            self.everywhere = merge_mappings(self.everywhere, values)

    def of(self, name: str) -> dict[str, Any]:
        """Return the changes of a stage."""
        merged: dict[str, Any] = merge_mappings(self.everywhere, self.single.get(name, {}))
        return merged


def _stage(entry: Any, base: TrainConfig, where: str, changes: _Changes) -> Stage:
    """Lay a stage over the common configuration, and changes over the stage."""
    fields = dict(entry) if isinstance(entry, Mapping) else {}
    name, start = str(fields.pop("name", "")), fields.pop("start", "averaged")
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise ConfigError(
            f"{where}: every stage needs a name of small letters, digits, - and _, found {entry!r}"
        )
    where = f"{where}: {name}"
    if start not in get_args(Start):
        raise ConfigError(f"{where}: start must be averaged or raw, found {start!r}")
    if "out" in fields:
        raise ConfigError(f"{where}: out is the folder of the campaign; give it outside of stages")
    config = overlay_config(replace(base, seed=_seed(base.seed, name)), fields, where)
    config = overlay_config(config, changes.of(name), "command line")
    check_config(config)
    network_config(config)
    return Stage(name, start, config)


def _seed(seed: int, name: str) -> int:
    """Return the seed of a stage, which depends on its name but not on its position."""
    return hashed_seed(f"{seed} {name}") >> 1
