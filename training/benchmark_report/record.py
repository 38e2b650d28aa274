"""Run a plan, store each measurement as it is done, and make one JSON of them.

python -m training.benchmark_report --captures FOLDER --quick
"""

import hashlib
import json
import math
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

import recon
from recon.cores import allowed_cores
from recon.errors import InputError, ReconError
from recon.files import atomic_output
from render.backends import native
from training.benchmark_report.captures import ROOT, Captures, without_folders
from training.benchmark_report.machine import QUIET_CORES, cores_of_others
from training.benchmark_report.measurements import QUALITY, Measurement, measurements
from training.benchmark_report.plan import Plan
from training.evaluation.lpips import load_lpips
from training.evaluation.st_lpips import load_st_lpips

FORMAT = 1
SIGNIFICANT_DIGITS = 6
# The code whose changes make measurements of an earlier run invalid.
CODE = ("recon", "render", "training", "assets")


@dataclass(frozen=True)
class Source:
    """The code that is measured."""

    commit: str
    """Abbreviated hash; "unknown" outside a clone."""
    changed: bool
    """Whether the code differs from that commit, new files included."""
    digest: str
    """Hash of commit and changes."""


def read_source(root: Path = ROOT) -> Source:
    """Read commit and changes of the clone from git."""
    commit = _git(root, "rev-parse", "--short=7", "HEAD")
    if commit is None:
        return Source("unknown", False, recon.__version__)
    changes = _git(root, "diff", "--binary", "HEAD", "--", *CODE) or ""
    digest = hashlib.sha256((commit + changes).encode())
    names = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *CODE) or ""
    added = [root / name for name in sorted(names.split("\0")) if name]
    for path in added:
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.relative_to(root)} {len(content)} ".encode() + content)
    return Source(commit, bool(changes or added), digest.hexdigest())


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *words], cwd=root, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


@dataclass(frozen=True)
class Run:
    """A plan, and where its measurements are stored."""

    plan: Plan
    captures: Captures
    state: Path
    """Folder with a file for each measurement that is done."""
    source: Source

    @staticmethod
    def of(plan: Plan, folder: Path | None, states: Path) -> "Run":
        """Name the state by all that its measurements depend on, so that a run is resumed."""
        source = read_source()
        where = "" if folder is None else str(folder.resolve())
        settings = [source.digest, plan.name, where, torch.get_num_threads(), allowed_cores()]
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]
        state = states / f"{plan.name}-{digest}"
        state.mkdir(parents=True, exist_ok=True)
        return Run(plan, Captures(folder, states / "captures"), state, source)


def measure_all(run: Run, tell: Callable[[str], None], minutes: float = math.inf) -> dict[str, Any]:
    """Measure what is not stored yet, and return the document.

    What is missing on this machine is said, noted in the document and skipped, and so is what would
    begin after `minutes`; it is tried again the next time.
    """
    results, skipped = {}, []
    end = time.monotonic() + 60 * minutes
    tasks = list(measurements(run.plan, run.captures))
    for i, task in enumerate(tasks):
        head = f"[{i + 1}/{len(tasks)}] {task.key}"
        try:
            results[task.key], fresh = stored(run, task, end)
        except ReconError as error:
            reason = without_folders(str(error))
            skipped.append({"key": task.key, "reason": reason})
            tell(f"{head}: skipped, {reason}")
        else:
            tell(f"{head}: {results[task.key]['took_s']:.0f} s{'' if fresh else ', stored'}")
    return document(run, results, skipped)


def stored(run: Run, task: Measurement, end: float) -> tuple[dict[str, Any], bool]:
    """Return a measurement, and whether it was made now; a stored one is read.

    Raises:
        InputError: It is not stored, and the time to begin it is over.
    """
    path = run.state / f"{task.key.replace('/', ', ')}.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found, False
    if time.monotonic() > end:
        raise InputError("the time of the run was over")
    busy = cores_of_others()
    began = time.monotonic()
    entry = task.run()
    entry |= {"took_s": time.monotonic() - began, "cores_of_others": busy}
    entry = rounded(entry)
    with atomic_output(path) as temporary:
        temporary.write_text(json.dumps(entry, indent=1) + "\n", encoding="utf-8")
    return entry, True


def document(
    run: Run, results: dict[str, dict[str, Any]], skipped: list[dict[str, str]]
) -> dict[str, Any]:
    """Return the JSON of the benchmark; it names no folder and no host.

    Whether the machine was quiet is said of all measurements that depend on it.
    """
    busy = [
        entry["cores_of_others"] for key, entry in results.items() if not key.startswith(QUALITY)
    ]
    known = [each for each in busy if each is not None]
    return {
        "format": FORMAT,
        "commit": run.source.commit,
        "changed": run.source.changed,
        "version": recon.__version__,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "plan": run.plan.name,
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "instruction_set": native.instruction_set(),
            "cores": allowed_cores(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "quiet": bool(known) and len(known) == len(busy) and max(known) <= QUIET_CORES,
            "cores_of_others": max(known) if known else None,
        },
        "perceptual": perceptual(),
        "skipped": skipped,
        "results": results,
    }


def perceptual() -> str | None:
    """Return the name of the perceptual metric that this installation has."""
    if load_lpips() is not None:
        return "lpips"
    return None if load_st_lpips() is None else "st_lpips"


def rounded(value: Any) -> Any:
    """Round all numbers of a JSON value to six significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(each) for each in value]
    return value
