"""Outputs appear complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import InputError

# Where weights that ship with recon are: in a source tree, and in an installed package.
WEIGHT_FOLDERS = (
    Path(__file__).resolve().parents[1] / "assets",
    Path(__file__).resolve().parent / "weights",
)


def check_output(path: Path) -> None:
    """ReconError unless a file (or folder of files) could be written at `path`."""
    parent = path.resolve().parent
    if not parent.is_dir():
        raise InputError(
            f"cannot write {path}: the folder {parent} does not exist; create it or choose another"
        )
    if not os.access(parent, os.W_OK):
        raise InputError(
            f"cannot write {path}: no permission to write in {parent}; choose another folder"
        )


def check_new_folder(path: Path) -> None:
    """ReconError unless a folder could be made at `path` without replacing anything."""
    check_output(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"cannot write {path}: it exists and holds something; choose a new folder")


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, renamed to it when the block ends well.

    Works for a file and for a folder (create the folder at the temporary path). The
    temporary keeps the extension, which many writers go by. An existing output stays
    untouched until the new one is complete; a folder is then replaced whole.
    """
    check_output(path)
    scratch = Path(tempfile.mkdtemp(prefix=".recon-", dir=path.resolve().parent))
    try:
        temporary = scratch / path.name
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    except PermissionError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another place") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
