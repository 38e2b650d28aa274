"""What is found instead of a file: pointers of Git LFS, and web pages of failed downloads."""

from pathlib import Path

from recon.errors import InputError

HEAD_BYTES = 512
# What download tools and Git leave instead of a file: beginning in lower case, description.
STAND_INS = {
    b"version https://git-lfs": "it is a pointer of Git LFS, not the file; run `git lfs pull`",
    b"<!doctype html": "it is a web page, as failed downloads leave it; download it again",
    b"<html": "it is a web page, as failed downloads leave it; download it again",
}


def head_of(path: Path, size: int = HEAD_BYTES) -> bytes:
    """Return the first bytes of a file; none if it cannot be read or is no regular file."""
    try:
        if not path.is_file():
            return b""
        with path.open("rb") as file:
            return file.read(size)
    except OSError:
        return b""


def stand_in(head: bytes) -> str:
    """Say what stands for the content of a file, and the remedy; empty if nothing does."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    return next((text for mark, text in STAND_INS.items() if start.startswith(mark)), "")


def check_stand_in(path: Path, content: bytes | None = None) -> None:
    """Raise InputError if a file holds something that stands for it only."""
    if problem := stand_in(head_of(path) if content is None else content[:HEAD_BYTES]):
        raise InputError(f"cannot read {path}: {problem}")
