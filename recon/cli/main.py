"""Entry point of the command line: selects the command, runs it, prints errors as one line."""

import importlib
import sys
from pathlib import Path
from typing import Any

import recon
from recon.cli.arguments import UsageError
from recon.cli.help import help_text
from recon.cli.parser import parse
from recon.errors import MissingDependency, ReconError, did_you_mean
from recon.interrupts import stoppable
from recon.memory import out_of_memory_text, tune_allocator
from recon.reporting import discard_output, in_flags, note, say, telling_warnings

# name -> (module, class, one line of help)
COMMANDS = {
    "reconstruct": ("recon.cli.reconstruct", "Reconstruct", "turn photos into a scene (default)"),
    "batch": ("recon.cli.batch", "Batch", "reconstruct many captures"),
    "view": ("recon.cli.view", "View", "view a scene in the browser"),
    "render": ("recon.cli.render", "Render", "render images or a video of a scene"),
    "compress": ("recon.cli.compress", "Compress", "reduce the file size of a scene"),
    "convert": ("recon.cli.convert", "Convert", "convert a scene to another format"),
    "mesh": ("recon.cli.mesh", "Mesh", "make a triangle mesh of a scene"),
    "clean": ("recon.cli.clean", "Clean", "remove floaters from a scene"),
    "info": ("recon.cli.info", "Info", "describe a scene file or a capture"),
    "eval": ("recon.cli.evaluate", "Evaluate", "measure quality on held-out photos"),
    "train": ("recon.cli.train", "Train", "train a network"),
    "data convert": ("recon.cli.data", "Convert", "convert clips and captures to shards"),
    "data render-meshes": ("recon.cli.data", "RenderMeshes", "render mesh files to shards"),
    "bench": ("recon.cli.bench", "Bench", "measure the speed of this machine"),
    "doctor": ("recon.cli.doctor", "Doctor", "check this installation"),
}
DEFAULT = "reconstruct"


def main(arguments: list[str] | None = None) -> None:
    """Run `recon`.

    Args:
        arguments: words of the command line after `recon`; those of the process if None.

    Raises:
        SystemExit: 2 for a user error, 130 after Ctrl-C, 143 after SIGTERM, 0 for --help.
    """
    with stoppable(is_process=arguments is None):
        run(sys.argv[1:] if arguments is None else arguments)


def run(arguments: list[str]) -> None:
    """Run a command; print an error that a user can correct as one line, and exit with code 2."""
    try:
        command = _parsed(arguments)
        if command is not None:
            with telling_warnings():
                command.run()
    except BrokenPipeError:
        # The reader of our output went away (`recon info x | head`): not an error.
        discard_output()
        raise SystemExit(0) from None
    except Exception as error:
        if (text := user_error(error)) is None:
            raise
        _fail(text)


def user_error(error: Exception) -> str | None:
    """Return the message for an error that a user can correct, in the words of the command line."""
    if not isinstance(error, ReconError):
        return _limit_of_machine(error)
    text = in_flags(str(error), error.fields)
    if isinstance(error, MissingDependency):
        # A library that is installed cannot be loaded without memory.
        return out_of_memory_text(error.__context__ or error) or text
    return text


def _parsed(arguments: list[str]) -> Any:
    """Return the command to run; None after --help and --version, which are answered here."""
    if arguments[:1] == ["--version"]:
        say(f"recon {recon.__version__}")
        return None
    name, words = DEFAULT, arguments
    for length in (2, 1):  # `recon data convert`, `recon train`
        if " ".join(arguments[:length]) in COMMANDS and len(arguments) >= length:
            name, words = " ".join(arguments[:length]), arguments[length:]
            break
    program = "recon" if words is arguments else f"recon {name}"
    module, cls, _ = COMMANDS[name]
    kind = getattr(importlib.import_module(module), cls)
    if not arguments or "-h" in words or "--help" in words:
        others = {key: text for key, (_, _, text) in COMMANDS.items()}
        say(help_text(program, kind, others if program == "recon" else None).rstrip())
        return None
    try:
        if program == "recon":
            _check_not_a_command(arguments[0])
        command = parse(kind, words)
    except UsageError as error:
        raise UsageError(f"{error} (see {program} --help)") from None
    tune_allocator()
    return command


def _check_not_a_command(name: str) -> None:
    """Raise UsageError for a mistyped command, which would otherwise be taken for an input."""
    if name.isalpha() and not Path(name).exists():
        within = [command for command in COMMANDS if command.startswith(f"{name} ")]
        if within:
            raise UsageError(f"recon {name}: expected one of: {', '.join(within)}")
        hint = did_you_mean(name, COMMANDS)
        hint = hint or f"; expected photos or one of: {', '.join(COMMANDS)}"
        raise UsageError(f"no folder and no command {name!r}{hint}")


def _limit_of_machine(error: Exception) -> str | None:
    """Return the message for an error that says what this machine cannot do, else None."""
    rasterizer = sys.modules.get("render.types")
    if rasterizer is not None and isinstance(error, rasterizer.BackendUnavailable):
        return in_flags(str(error), ["device"])
    if (text := out_of_memory_text(error)) is not None:
        return text
    if isinstance(error, OSError) and error.errno is not None:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return None


def _fail(text: str) -> None:
    note(f"error: {' '.join(text.split())}")
    raise SystemExit(2) from None
