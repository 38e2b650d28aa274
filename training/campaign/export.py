"""Export of a campaign's weights as one float16 file, whose header holds the whole recipe."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import recon
from recon.errors import InputError
from recon.model.checkpoint import read_checkpoint, save_checkpoint
from recon.model.registry import load_checkpoint
from recon.overlay import overlay
from training.campaign.recipe import Recipe, Stage
from training.data.captures import read_sources
from training.data.store import MANIFEST
from training.run_folder import FIXED, WEIGHTS

# What determines the weights of a stage, besides the code: the rest of a configuration does not.
RECORDED = (*FIXED, "precision")


def export_campaign(
    recipe: Recipe, target: Path, note: str = "", changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the weights of the last stage that has any as float16; return their provenance.

    Args:
        recipe: The campaign.
        target: File to write.
        note: Text for the header.
        changes: Fields of the network's configuration to change; the shapes of the weights must
            not depend on them.

    Raises:
        InputError: No stage has weights, or a weight does not fit into float16.
        ConfigError: A changed field does not exist.
    """
    begun = [stage for stage in recipe.stages if (stage.folder / WEIGHTS).is_file()]
    if not begun:
        raise InputError(f"nothing to export: no weights in {recipe.out}")
    checkpoint = load_checkpoint(begun[-1].folder / WEIGHTS)
    network: Any = checkpoint.network
    network.config = overlay(network.config, changes or {}, "changes")
    for key, value in network.state_dict().items():
        if not bool(torch.isfinite(value.half()).all()):
            raise InputError(f"{begun[-1].folder / WEIGHTS}: {key} does not fit into float16")
    provenance = _provenance(recipe, begun, checkpoint.provenance["licence"])
    if note:
        provenance["note"] = note
    save_checkpoint(target, checkpoint.name, network, provenance, torch.float16)
    return provenance


def _provenance(recipe: Recipe, begun: list[Stage], licence: str) -> dict[str, Any]:
    """Return recipe, data and licences, the same for the same campaign wherever it ran."""
    stages, scenes = [], 0
    sources = dict.fromkeys(recipe.attributions)
    for stage in begun:
        found = read_checkpoint(stage.folder / WEIGHTS)[0]["provenance"]
        config, step = found["config"], found["step"]
        scenes += step * config["dataset"]["batch"]
        recorded = {key: config[key] for key in RECORDED}
        facts = {"name": stage.name, "start": stage.start, "step": step}
        stages.append({**facts, "computed_on": found["computed_on"], **recorded})
        sources |= dict.fromkeys(_attributions(config["dataset"]["captures"]))
        stored = _store(config["dataset"].get("stored", {}))
        if stored is not None:
            stages[-1]["stored_scenes"] = stored
        if config["init"] and Path(config["init"]).exists():
            stages[-1]["init_provenance"] = read_checkpoint(Path(config["init"]))[0]["provenance"]
    provenance: dict[str, Any] = without_absolute_paths(
        {"stages": stages, "scenes": scenes, "recon": recon.__version__}
    )
    return {**provenance, "licence": licence, "attributions": list(sources)}


def _attributions(captures: Mapping[str, Any]) -> list[str]:
    """Return name, licence, author and address of every capture that was trained on."""
    if captures["weight"] <= 0:
        return []
    unused = [*captures.get("exclude", ()), *captures.get("held_out", ())]
    sources = read_sources(Path(captures["folder"]), unused)
    lines = []
    for name, facts in sources.items():
        parts = (facts.get(key) for key in ("licence", "attribution", "repository"))
        lines.append(f"{name}: {', '.join(part for part in parts if part)}")
    return lines


def _store(stored: Mapping[str, Any]) -> Any:
    """Return the configuration of the scenes on disk that a stage read, if it did."""
    if not stored or stored["weight"] <= 0:
        return None
    path = Path(stored["folder"]) / MANIFEST
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def without_absolute_paths(value: Any) -> Any:
    """Return nested values with absolute paths made relative to the working directory.

    Of a path elsewhere only the last name remains: the rest says something about a machine, not
    about the weights.
    """
    if isinstance(value, Mapping):
        return {key: without_absolute_paths(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [without_absolute_paths(each) for each in value]
    if not isinstance(value, str) or not Path(value).is_absolute():
        return value
    path, here = Path(value), Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else path.name
