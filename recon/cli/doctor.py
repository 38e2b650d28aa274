"""`recon doctor`: report what this installation can do."""

import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recon.cli.arguments import JsonOutput, UsageError
from recon.cli.features import FEATURES, feature_states, reinstall_command, version
from recon.errors import ReconError
from recon.files import temporary_folder
from recon.memory import available_memory
from recon.reporting import check_json, note, prints_json, say, write_json

# What a fact begins with if something is wrong.
BROKEN = ("missing: ", "damaged: ")


@dataclass(frozen=True)
class Doctor:
    """Report what this installation can do, what is missing for the rest, and how to get it."""

    fix: bool = False
    """Print the commands that install what is missing, and nothing else on standard output; none is
    run."""
    json: JsonOutput = None
    """Print one JSON object instead of text, or write it to FILE."""

    def run(self) -> None:
        """Print the report; a missing package is not an error."""
        if self.fix and prints_json(self.json):
            raise UsageError("--fix and --json exclude each other; pass one of them or --json FILE")
        check_json(self.json, is_result=True)
        facts = _facts()
        if self.json is not None:
            write_json(facts, self.json)
        if prints_json(self.json):
            return
        for line in _fixes(facts) if self.fix else _report(facts):
            say(line)


def _report(facts: dict[str, Any]) -> list[str]:
    """Return the lines of the report."""
    tables = ("optional", "features", "repairs")
    lines = [f"{key.replace('_', ' '):<10}  {facts[key]}" for key in facts if key not in tables]
    for name, feature in facts["features"].items():
        state = "ready"
        if feature["missing"]:
            state = f"missing: {', '.join(feature['missing'])}; {feature['without']}"
        lines.append(f"{name:<10}  {state}")
    if _commands(facts):
        lines.append("recon doctor --fix prints the commands that install what is missing")
    return lines


def _commands(facts: dict[str, Any]) -> list[tuple[str, Sequence[str]]]:
    """Return (what is missing, commands) of everything that a command can add."""
    wanted = list(facts["repairs"].items())
    wanted += [(name, state["commands"]) for name, state in facts["features"].items()]
    return [(name, commands) for name, commands in wanted if commands]


def _fixes(facts: dict[str, Any]) -> list[str]:
    """Return a comment and the commands for everything that is missing, as a shell script."""
    commands = _commands(facts)
    if not commands:
        note("nothing is missing that a command could install")
    return [line for name, lines in commands for line in (f"# {name}", *lines)]


def _facts() -> dict[str, Any]:
    import torch
    from PIL import features

    import recon
    from recon.capture.cache import chosen_folder

    cuda = torch.cuda.is_available()
    facts = {
        "recon": recon.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if cuda else "cpu (torch sees no CUDA GPU)",
        "cpu_kernel": _cpu_kernel(),
        "weights": _weights(),
        "memory": _memory(),
        "cache": _folder(chosen_folder(), "RECON_CACHE"),
        "temporary": _folder(Path(tempfile.gettempdir()), "TMPDIR"),
        "images": ", ".join(name for name in ("webp", "avif") if features.check(name)) or "basic",
        "optional": {name: version(name) for feature in FEATURES for name in feature.packages},
        "features": {
            name: asdict(state)
            for name, state in feature_states(torch.version.cuda is not None, cuda).items()
        },
    }
    broken = [key for key in ("cpu_kernel", "weights") if str(facts[key]).startswith(BROKEN)]
    return facts | {"repairs": {key.replace("_", " "): [reinstall_command()] for key in broken}}


def _cpu_kernel() -> str:
    from render.backends import native

    try:
        return (
            f"{native.instruction_set()}, ABI {native.abi_version()}, "
            f"{native.library_path(native.instruction_set())}"
        )
    except RuntimeError as error:
        return f"missing: {error}"


def _weights() -> str:
    from recon.model.registry import NETWORKS, build_model

    names = [name for name, kind in NETWORKS.items() if kind.weights is not None]
    try:
        for name in names:
            build_model(name)
    except ReconError as error:
        return f"damaged: {error}"
    return f"{', '.join(names)}: ok"


def _memory() -> str:
    available = available_memory()
    return "unknown" if available is None else f"{available / 1e9:.1f} GB available"


def _folder(folder: Path | None, variable: str) -> str:
    """Return a folder, whether it can be written, and the free space.

    An environment variable chooses another one.
    """
    if folder is None:
        return f"none: there is no home folder; set {variable} to a folder"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        return f"{folder}: cannot be written ({error.strerror}); set {variable} to another folder"
    return f"{folder}: {free / 1e9:.1f} GB free"
