"""The cache of slow deterministic results: solved cameras and frames of videos."""

import atexit
import errno
import functools
import hashlib
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from recon.errors import warn
from recon.files import temporary_folder

# Increase this whenever the same files would give different results.
VERSION = 9
CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Return the folder of the cache: $RECON_CACHE, or `recon` in the user's cache folder.

    If it cannot be written, there is a warning, and a temporary folder is used instead until the
    process ends.
    """
    return _writable(chosen_folder())


def chosen_folder() -> Path | None:
    """Return the folder that the environment chooses for the cache; None without a home."""
    if chosen := os.environ.get("RECON_CACHE"):
        return Path(chosen)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recon"
    except RuntimeError:
        return None


@functools.cache
def _writable(folder: Path | None) -> Path:
    try:
        if folder is None:
            raise FileNotFoundError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder):
            return folder
    except OSError as error:
        warn(
            f"cannot write the cache {folder or ''}: {error.strerror}; solved cameras and frames "
            "of videos are not kept; set RECON_CACHE to a folder that can be written"
        )
    kept = ExitStack()
    atexit.register(kept.close)
    return kept.enter_context(temporary_folder())


def content_key(files: Sequence[tuple[str, Path]], *settings: object) -> str:
    """Return a cache key: a SHA-256 of file names, file contents and settings."""
    digest = hashlib.sha256(repr((VERSION, *settings)).encode())
    for name, path in files:
        digest.update(os.fsencode(name) + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()[:32]
