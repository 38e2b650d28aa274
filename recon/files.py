"""Output files and folders, which appear complete or not at all."""

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from recon.errors import InputError
from recon.interrupts import undone

# Where weights that ship with recon are: in a source tree, and in an installed package.
WEIGHT_FOLDERS = (
    Path(__file__).resolve().parents[1] / "assets",
    Path(__file__).resolve().parent / "weights",
)
# Temporary folders are called so, and a random number.
TEMPORARY_PREFIX = ".recon-"


def check_output(path: Path) -> None:
    """Check that a file can be written at a path; a symbolic link is written through.

    Raises:
        InputError: The folder does not exist or cannot be written, the name is too long, or there
            is something else than a file of the user's at the path.
    """
    _check_parent(path)
    if path.is_dir():
        raise InputError(f"cannot write {path}: it is a folder; expected the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(
            f"cannot write {path}: it is a pipe or a device; expected the name of a file"
        )
    if path.is_file() and not os.access(path, os.W_OK):
        raise InputError(f"cannot write {path}: the file there is read-only; choose another output")


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


def create_folder(path: Path) -> None:
    """Create a folder and those above it, unless it exists.

    Raises:
        InputError: It cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot create the folder {path}: {error.strerror}; choose another output"
        ) from None


def check_new_folder(path: Path) -> None:
    """Check that a folder can be created at a path; an empty one may exist.

    Raises:
        InputError: There is something at the path, or no permission.
    """
    check_output_folder(path, ())


def _check_parent(path: Path) -> None:
    """Check that a file or a folder can be created at a path, by creating one beside it."""
    try:
        target = path.resolve()
        parent = target.parent
        if not parent.is_dir():
            found = (
                f"{parent} is not a folder; choose another"
                if parent.exists()
                else f"the folder {parent} does not exist; create it or choose another"
            )
            raise InputError(f"cannot write {path}: {found}")
        if not os.access(parent, os.W_OK):
            raise InputError(
                f"cannot write {path}: no permission to write in {parent}; choose another folder"
            )
        with temporary_folder(parent) as folder:
            (folder / target.name).touch()
    except (RuntimeError, ValueError) as error:
        # A loop of symbolic links, or a name with a null character or a lone surrogate.
        raise InputError(f"cannot write {str(path)!r}: {error}; choose another output") from None
    except OSError as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: OSError) -> InputError:
    return InputError(f"cannot write {path}: {error.strerror or error}; choose another output")


def check_space(path: Path, needed: float) -> None:
    """Check before the work begins that the disk has room for an output.

    Args:
        path: File or folder to write.
        needed: Estimate of its size (bytes), which may be twice too large.

    Raises:
        InputError: Not even half of it is free.
    """
    free = shutil.disk_usage(path.resolve().parent).free
    if free < needed / 2:
        raise InputError(
            f"cannot write {path}: it takes about {needed / 1e6:.3g} MB, but only "
            f"{free / 1e6:.3g} MB are free; make room or choose another disk"
        )


def has_no_room(error: BaseException | None) -> bool:
    """Return whether an error says that a disk, or what one may use of it, is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Create a folder that is deleted when the block ends, or when the process is stopped.

    Args:
        parent: Folder to create it in; by default that of temporary files.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    folder = parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}"
    with undone(lambda: shutil.rmtree(folder, ignore_errors=True)):
        folder.mkdir(mode=0o700)
        yield folder


@contextmanager
def atomic_output(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`, and rename it to `path` when the block succeeds.

    Works for a file and for a folder (create the folder at the temporary path). The temporary keeps
    the extension, which determines the format for many writers. An existing output stays untouched
    until the new one is complete; a folder is then replaced as a whole. A symbolic link stays, and
    what it points to is replaced.

    Raises:
        InputError: The output cannot be written, or would replace something of another kind.
    """
    _check_parent(path)
    target = path.resolve()
    try:
        with temporary_folder(target.parent) as folder:
            temporary = folder / target.name
            yield temporary
            if temporary.is_dir():
                check_output_folder(path, [entry.name for entry in temporary.iterdir()])
                _exchange(temporary, target, folder / "replaced")
            else:
                check_output(path)
                temporary.replace(target)
    except OSError as error:
        raise _refusal(path, error) from error


def _exchange(new: Path, target: Path, old: Path) -> None:
    """Rename a folder to `target`; the one that was there goes to `old`."""
    try:
        if target.exists():
            target.rename(old)
        new.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
