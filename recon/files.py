"""Output files and folders, which appear complete or not at all."""

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import InputError

# Where weights that ship with recon are: in a source tree, and in an installed package.
WEIGHT_FOLDERS = (
    Path(__file__).resolve().parents[1] / "assets",
    Path(__file__).resolve().parent / "weights",
)


def check_output(path: Path) -> None:
    """Check that a file can be written at a path.

    Raises:
        InputError: The folder does not exist or is read-only, or there is a folder at the path.
    """
    _check_parent(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; expected the name of a file")


def check_output_folder(path: Path, names: Collection[str]) -> None:
    """Check that a folder with these files can be written at a path.

    An earlier output is replaced; a folder that contains anything else never is.

    Raises:
        InputError: There is something else at the path, or no permission.
    """
    _check_parent(path)
    if path.exists() and not path.is_dir():
        raise InputError(f"cannot write {path}: it is a file; expected the name of a folder")
    others = sorted({p.name for p in path.iterdir()} - set(names)) if path.exists() else []
    if others:
        raise InputError(
            f"cannot write {path}: the folder contains {others[0]}, which would be lost; "
            "choose a new folder"
        )


def check_new_folder(path: Path) -> None:
    """Check that a folder can be created at a path; an empty one may exist.

    Raises:
        InputError: There is something at the path, or no permission.
    """
    check_output_folder(path, ())


def _check_parent(path: Path) -> None:
    parent = path.resolve().parent
    if not parent.is_dir():
        raise InputError(
            f"cannot write {path}: the folder {parent} does not exist; create it or choose another"
        )
    if not os.access(parent, os.W_OK):
        raise InputError(
            f"cannot write {path}: no permission to write in {parent}; choose another folder"
        )


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it to `path` when the block succeeds.

    Works for a file and for a folder (create the folder at the temporary path). The temporary keeps
    the extension, which determines the format for many writers. An existing output stays untouched
    until the new one is complete; a folder is then replaced as a whole.

    Raises:
        InputError: The output cannot be written, or would replace something of another kind.
    """
    _check_parent(path)
    try:
        folder = Path(tempfile.mkdtemp(prefix=".recon-", dir=path.resolve().parent))
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another folder") from error
    try:
        temporary = folder / path.name
        yield temporary
        if temporary.is_dir():
            check_output_folder(path, [entry.name for entry in temporary.iterdir()])
            shutil.rmtree(path, ignore_errors=True)
        else:
            check_output(path)
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"cannot write {path}: {reason}; choose another output") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
