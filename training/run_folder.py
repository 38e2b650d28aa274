"""The folder of a run: what is created there, and whether its state belongs to a configuration."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from recon.errors import ConfigError, InputError, ReconError
from recon.overlay import overlay
from training.config import TrainConfig

STATE, WEIGHTS, VALIDATION_IMAGES = "state.safetensors", "model.safetensors", "validation"
# Fields of the configuration that may not change when a run is resumed.
FIXED = ("network", "size", "init", "changes", "dataset", "curriculum", "optimiser", "loss", "seed")
# Folders of data, and weights that only a new run reads: they may be elsewhere when it is resumed.
LOCATIONS = ("folder", "photos", "cache", "init")
_MISSING = object()


@contextmanager
def new_folder(path: Path) -> Iterator[None]:
    """Create a folder, and remove it again if the block fails and leaves it empty.

    Raises:
        InputError: The folder cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:  # or a name with a null character
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"out: cannot create the folder {path}: {reason}; choose another out=FOLDER"
        ) from None
    try:
        yield
    except BaseException:
        with suppress(OSError):  # one is not empty
            for folder in missing:
                folder.rmdir()
        raise


def check_unchanged(path: Path, progress: dict[str, Any], config: TrainConfig) -> None:
    """Check that a state belongs to a configuration.

    Raises:
        ReconError: A field of `FIXED` differs, apart from `LOCATIONS`; the message names it.
    """
    then, now = progress["config"], json.loads(json.dumps(asdict(config)))
    # Fields that came later had their default.
    with suppress(ConfigError):
        known = asdict(overlay(TrainConfig(), then, "state"))
        then = {key: value for key, value in json.loads(json.dumps(known)).items() if key in then}
    new_run = f"start a new run: out=FOLDER init={path.parent / WEIGHTS}"
    for key in FIXED:
        if key not in then:
            raise ReconError(
                f"cannot resume {path}: an earlier version wrote it (it has no {key}); {new_run}"
            )
        if (found := _difference(then[key], now[key], key)) is not None:
            name, old, new = found
            remedy = "leave it out" if old is _MISSING else f"set {name}={_text(old)}"
            raise ReconError(
                f"cannot resume {path}: {name} was {_text(old)}, now {_text(new)}; {remedy}, or "
                f"{new_run}"
            )


def _difference(then: Any, now: Any, name: str) -> tuple[str, Any, Any] | None:
    """Return the first field that differs, and its two values."""
    if isinstance(then, dict) and isinstance(now, dict):
        for key in {**then, **now}:
            old, new = (each.get(key, _MISSING) for each in (then, now))
            if (found := _difference(old, new, f"{name}.{key}")) is not None:
                return found
        return None
    if name.rpartition(".")[2] in LOCATIONS and bool(then) == bool(now):
        return None
    return None if then == now else (name, then, now)


def _text(value: Any) -> str:
    if value is _MISSING:
        return "not set"
    return value if value and isinstance(value, str) else json.dumps(value)
