"""The command line: finds the command, runs it, turns mistakes into one line."""

import contextlib
import ctypes
import importlib
import io
import os
import re
import sys
from pathlib import Path

import tyro

import recon
from recon.errors import ConfigError, ReconError

# name -> (module, class, one line of help)
COMMANDS = {
    "view": ("recon.cli.view", "View", "look at a scene in the browser"),
    "render": ("recon.cli.render", "Render", "pictures and video of a scene"),
    "compress": ("recon.cli.compress", "Compress", "a smaller scene that looks the same"),
    "convert": ("recon.cli.convert", "Convert", "a scene in another format"),
    "info": ("recon.cli.info", "Info", "what a scene file or a capture holds"),
    "eval": ("recon.cli.evaluate", "Evaluate", "quality on held-out photos"),
    "train": ("recon.cli.train", "Train", "train a network"),
    "bench": ("recon.cli.bench", "Bench", "how fast this machine renders"),
    "doctor": ("recon.cli.doctor", "Doctor", "what this installation can do"),
}
# Fields that have a flag of another name; all others are spelt like the field.
FIELD_FLAGS = {"source": "--cameras", "fraction": "--prune"}
DEFAULT = ("recon.cli.reconstruct", "Reconstruct")


def main(arguments: list[str] | None = None) -> None:
    """Run `recon`; ends by SystemExit with the exit codes of the contract."""
    arguments = sys.argv[1:] if arguments is None else arguments
    _keep_freed_memory()
    try:
        _run(arguments)
    except ConfigError as error:
        _fail(in_flags(error))
    except ReconError as error:
        _fail(str(error))
    except RuntimeError as error:
        if not _is_unavailable(error):
            raise
        _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("recon: interrupted\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of our output went away (`recon info x | head`): not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def in_flags(error: ConfigError) -> str:
    """The error's message with flags in place of field names: `max_views` -> `--max-views`."""
    text = str(error)
    for field in error.fields:
        flag = FIELD_FLAGS.get(field, "--" + field.rpartition(".")[2].replace("_", "-"))
        # Not inside of a path or of a longer word; a field named like a plain word counts only
        # where it stands first or has a value.
        name = rf"(?<![\w/.-]){re.escape(field)}(?![\w/-])"
        if field.isalpha():
            name = rf"(?:^{field}\b|{name}(?==))"
        text = re.sub(rf"{name}=('?)([^\s']+)\1", rf"{flag} \2", text)
        text = re.sub(name, flag, text)
    return text


def _is_unavailable(error: RuntimeError) -> bool:
    """Whether a rasterizer backend said that it cannot run here; without importing torch."""
    rasterizer = sys.modules.get("render.types")
    return rasterizer is not None and isinstance(error, rasterizer.BackendUnavailable)


def _keep_freed_memory() -> None:
    """Let glibc reuse large freed blocks instead of handing each back to the system.

    Tensors of the same few sizes come and go thousands of times; without this a quarter
    of the time goes into page faults (docs/experiments.md).
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        m_trim_threshold, m_mmap_max = -1, -4
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def _run(arguments: list[str]) -> None:
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"recon {recon.__version__}\n")
        return
    name = arguments[0] if arguments else ""
    if name in COMMANDS:
        module, cls, _ = COMMANDS[name]
        command = _parse(f"recon {name}", module, cls, _bare_json(name, arguments[1:]))
    else:
        _check_not_a_command(name)
        command = _parse("recon", *DEFAULT, arguments or ["--help"])
    command.run()  # type: ignore[attr-defined]


def _bare_json(name: str, arguments: list[str]) -> list[str]:
    """`recon bench raster --json` without a file means standard output."""
    if name == "bench" and "--json" in arguments:
        after = arguments.index("--json") + 1
        if after == len(arguments) or arguments[after].startswith("--"):
            return [*arguments[:after], "-", *arguments[after:]]
    return arguments


def _parse(program: str, module: str, cls: str, arguments: list[str]) -> object:
    """The command object; tyro's boxed complaints become one line."""
    kind = getattr(importlib.import_module(module), cls)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                kind,
                prog=program,
                args=arguments,
                description=_description(program, kind),
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as end:
        if end.code in (0, None):
            raise
        raise ReconError(f"{_one_line(complaint.getvalue())} (see {program} --help)") from None


def _description(program: str, kind: type) -> str:
    first = (kind.__doc__ or "").strip().splitlines()[0]
    if program != "recon":
        return first
    rows = [f"  recon {name:<7} {text}" for name, (_, _, text) in COMMANDS.items()]
    return "\n".join([first, "", "Other commands (each has its own --help):", *rows])


# tyro's phrases -> ours, applied in order to its message on one line.
_PHRASES = (
    (r"For full helptext.*|Argument helptext:.*", ""),
    (r"Required options? Missing from [a-z ]+:", "missing"),
    (r"(Value error )?Error parsing", "bad value for"),
    (r"invalid literal for int\(\) with base 10:", "expected a whole number, found"),
    (r"could not convert string to float:", "expected a number, found"),
    (r"Invalid choice invalid choice", "invalid choice"),
    (r"(Unrecognized options?) \1", r"\1"),
    (r" \((required|default: [^)]*)\)", ""),
)


def _one_line(box: str) -> str:
    """The words of a boxed message, without its frame and its hints."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    # Frames and rules, drawn or, without Unicode, typed.
    words = " ".join(re.sub(r"[─-╿]|-{3,}|^[|+]|[|+]$", " ", text, flags=re.MULTILINE).split())
    for phrase, ours in _PHRASES:
        words = re.sub(phrase, ours, words)
    return " ".join(words.split()) or "wrong options"


def _check_not_a_command(name: str) -> None:
    """`recon convert x` must not be taken for a folder named convert."""
    if re.fullmatch(r"[a-z]+", name) and not Path(name).exists():
        known = ", ".join(COMMANDS)
        raise ReconError(
            f"no folder and no command {name!r}; expected a folder of photos or one of: {known}"
        )


def _fail(message: str) -> None:
    sys.stderr.write(f"recon: error: {message}\n")
    raise SystemExit(2)
