"""Which captures and splits to evaluate: `splits.json` and suite files."""

import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from recon.capture import Capture, Frame
from recon.errors import ReconError


@dataclass(frozen=True)
class Case:
    """One capture and one of its splits."""

    capture: Path
    split: str


@dataclass(frozen=True)
class Split:
    """Frames to reconstruct from and frames that are held out."""

    context: tuple[Frame, ...]
    target: tuple[Frame, ...]


def read_suite(path: Path) -> list[Case]:
    """Cases of a YAML file: `root` (relative to the file) and `cases`, name -> splits."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReconError(f"suite not found: {path}; check the path") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ReconError(f"{path} is not valid YAML: {error}") from error
    cases = document.get("cases") if isinstance(document, dict) else None
    if not isinstance(cases, dict) or set(document) - {"root", "cases"}:
        raise ReconError(f"{path}: expected the keys 'root' and 'cases' (capture: list of splits)")
    root = (path.parent / str(document.get("root", "."))).resolve()
    return [Case(root / name, str(split)) for name, splits in cases.items() for split in splits]


def read_split(capture: Capture, name: str) -> Split:
    """A named split of a capture's splits.json; ReconError when it does not fit."""
    path = capture.root / "splits.json"
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ReconError(
            f'no {path}; expected {{"name": {{"context": [files], "target": [files]}}}}'
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ReconError(f"{path} is not valid JSON ({error})") from error
    if not isinstance(splits, dict) or name not in splits:
        raise ReconError(f"{path} has no split {name!r}; it has: {', '.join(map(str, splits))}")
    frames = {frame.name: frame for frame in capture.frames}
    chosen = {}
    for role in ("context", "target"):
        names = splits[name].get(role, [])
        missing = [n for n in names if n not in frames]
        if missing or not names:
            found = f"{missing[0]!r} is not a frame of the capture" if missing else "it is empty"
            raise ReconError(f"{path}, split {name!r}: bad list {role!r}: {found}")
        chosen[role] = tuple(frames[n] for n in names)
    shared = {f.name for f in chosen["context"]} & {f.name for f in chosen["target"]}
    if shared:
        raise ReconError(f"{path}, split {name!r}: {min(shared)} is both context and target")
    return Split(**chosen)
