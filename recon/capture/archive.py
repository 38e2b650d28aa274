"""Zip archives of photos, unpacked into the cache."""

import shutil
import stat
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from recon.capture.cache import cache_folder, content_key
from recon.errors import InputError, LeftOutWarning, ReconWarning, counted, listed, warn
from recon.files import atomic_output

# Archives that unpack to more than this many bytes may not be compressed more than this: photos and
# videos hardly are, so that it is a decompression bomb.
MAX_BYTES, MAX_RATIO = 2_000_000_000, 20
MAX_FILES = 100_000
# Fraction of the free space on disk that the files may take.
MAX_DISK_FRACTION = 0.8
CHUNK_BYTES = 1 << 20
# Folders of file managers.
IGNORED = ("__MACOSX",)
CONTENT, NOTE = "content", "left_out.txt"
ENTRY_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


def is_archive(path: Path) -> bool:
    """Return whether a file is a zip archive by its name or its content."""
    return path.suffix.lower() == ".zip" or zipfile.is_zipfile(path)


def unpacked(path: Path) -> tuple[Path, tuple[str, ...]]:
    """Unpack a zip archive into the cache.

    Only regular files are written, and only inside of the new folder.

    Returns:
        The folder, which is the only one in the archive if everything is in it, and the names of
        files that are left out, which a warning names: damaged, or with names that lead outside.

    Raises:
        InputError: The archive is damaged, encrypted, empty, or would fill the disk.
    """
    folder = cache_folder() / "archives" / content_key([(path.name, path)], "zip")
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            with zipfile.ZipFile(path) as archive:
                entries = _checked(path, archive, folder.parent)
                with atomic_output(folder) as temporary:
                    (temporary / CONTENT).mkdir(parents=True)
                    lost = [e.filename for e in entries if not _extract(archive, e, temporary)]
                    (temporary / NOTE).write_text("\n".join(lost), encoding="utf-8")
        except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError) as error:
            raise InputError(
                f"cannot read {path}: it is no zip archive, or cut short; copy it again"
            ) from error
        except (UnicodeDecodeError, NotImplementedError) as error:
            raise InputError(
                f"cannot read {path} ({error}); unpack it, and pass the folder"
            ) from error
    left_out = tuple((folder / NOTE).read_text(encoding="utf-8").splitlines())
    if left_out:
        warn(
            f"left out {counted(len(left_out), 'file')} of {path}, {listed(left_out)}: damaged, or "
            "with names that lead outside of a folder",
            LeftOutWarning,
        )
    content = folder / CONTENT
    while [entry.is_dir() for entry in content.iterdir()] == [True]:
        content = next(content.iterdir())
    return content, left_out


@contextmanager
def told_as_archive(folder: Path, path: Path) -> Iterator[None]:
    """Name an archive, and not the folder that it was unpacked to, in warnings and errors."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ReconWarning)
            yield
    except InputError as error:
        error.args = (str(error).replace(str(folder), str(path)),)
        raise
    finally:
        for each in caught:
            if isinstance(each.message, ReconWarning):
                text = str(each.message).replace(str(folder), str(path))
                warn(text, type(each.message), each.message.fields)
            else:
                warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)


def _checked(path: Path, archive: zipfile.ZipFile, parent: Path) -> list[zipfile.ZipInfo]:
    """Return the files to unpack, after a check of their number and sizes."""
    entries = [entry for entry in archive.infolist() if _is_file(entry)]
    total, packed = sum(entry.file_size for entry in entries), path.stat().st_size
    if not entries:
        raise InputError(f"{path} has no files; expected photos")
    if any(entry.flag_bits & 1 for entry in entries):
        raise InputError(f"{path} is encrypted; unpack it and pass the folder")
    if len(entries) > MAX_FILES or (total > MAX_BYTES and total > MAX_RATIO * packed):
        raise InputError(
            f"{path} would unpack to {len(entries):,} files and {total / 1e9:.1f} GB from "
            f"{packed / 1e6:.1f} MB, which photos never do; unpack it yourself if you trust it"
        )
    if total > MAX_DISK_FRACTION * shutil.disk_usage(parent).free:
        raise InputError(
            f"{path} would unpack to {total / 1e9:.1f} GB in {parent}, which has too little free "
            "space; set RECON_CACHE to a folder on a larger disk"
        )
    return entries


def _is_file(entry: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(entry.filename).parts
    return not entry.is_dir() and bool(parts) and parts[0] not in IGNORED


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, folder: Path) -> bool:
    """Write a file of an archive; return False if it is unsafe or damaged."""
    parts = entry.filename.replace("\\", "/").split("/")
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if any(part in ("", ".", "..") or ":" in part or "\0" in part for part in parts):
        return False
    if kind not in (0, stat.S_IFREG) or max(len(part.encode()) for part in parts) > 255:
        return False
    target = (folder / CONTENT).joinpath(*parts)
    if target.exists() or any(above.is_file() for above in target.parents):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with archive.open(entry) as source, target.open("wb") as output:
            shutil.copyfileobj(source, output, CHUNK_BYTES)
    except ENTRY_ERRORS:
        target.unlink(missing_ok=True)
        return False
    return True
