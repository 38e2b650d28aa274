"""The cache of slow deterministic results: solved cameras and frames of videos."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

# Increase this whenever the same files would give different results.
VERSION = 9
CHUNK_BYTES = 1 << 20


def cache_folder() -> Path:
    """Return $RECON_CACHE, or the folder `recon` in the user's cache folder."""
    if chosen := os.environ.get("RECON_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "recon"


def content_key(files: Sequence[tuple[str, Path]], *settings: object) -> str:
    """Return a cache key: a SHA-256 of file names, file contents and settings."""
    digest = hashlib.sha256(repr((VERSION, *settings)).encode())
    for name, path in files:
        digest.update(name.encode() + b"\0")
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
    return digest.hexdigest()[:32]
