"""Photos and videos without cameras: in folders, archives, lists and patterns of names."""

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from recon.capture.archive import is_archive, told_as_archive, unpacked
from recon.capture.folder import ICLOUD, read_files, read_folder
from recon.capture.images import natural_key
from recon.capture.maps import without_maps
from recon.capture.masks import without_masks
from recon.capture.types import Capture
from recon.capture.video import read_video
from recon.errors import InputError, LeftOutWarning, counted, listed, warn
from recon.photo_extensions import IMAGE_EXTENSIONS_TEXT, is_image, is_raw, is_video

# Images, videos and archives that recon does not read, which are named.
NOT_READ = (
    ".psd", ".psb", ".xcf", ".exr", ".hdr", ".svg", ".pdf", ".ai", ".eps", ".insv", ".insp", ".lrv",
    ".360", ".36p", ".osv", ".braw", ".r3d", ".heics", ".zip", ".tar", ".gz", ".tgz", ".7z", ".rar",
    ".bz2", ".xz",
)  # fmt: skip
# Extensions of files that are known to be no photos, so that their contents are not looked at.
NO_PHOTOS = (
    ".txt", ".md", ".json", ".xml", ".csv", ".xmp", ".aae", ".thm", ".html", ".log", ".db", ".ini",
    ".bin", ".npy", ".npz", ".ply", ".obj", ".mtl", ".splat", ".spz", ".sog", ".glb", ".gltf",
    ".usd", ".usdc", ".usda", ".usdz", ".xyz",
    ".py", ".yaml", ".yml", ".srt", ".gpx", ".wav", ".mp3", ".m4a", ".out", ".nvm", ".pcd", ".las",
    ".laz",
)  # fmt: skip
# Parts of names of Google's phones that tell a RAW photo from its developed one.
PIXEL_TWIN = re.compile(r"\.raw-\d+\.(cover|original)$")
# First bytes of image files.
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n", b"GIF8", b"II*\0", b"MM\0*", b"BM")


def read_photos(folder: Path, video_frames: int | None) -> Capture:
    """Read a folder of photos without cameras, or else the one video in it.

    Warnings name videos, files of the same photo in RAW, and files that recon does not read.

    Raises:
        InputError: There is neither a photo nor exactly one video.
    """
    try:
        capture = read_folder(folder)
    except InputError:
        return _only_video(folder, video_frames)
    capture = _without_raw_twins(capture)
    folders = {folder, *(frame.image_path.parent for frame in capture.frames)}
    files = [file for each in sorted(folders) for file in sorted(each.iterdir()) if file.is_file()]
    videos = [file for file in files if is_video(file)]
    capture = _leaving_out(capture, videos, "a video beside photos; pass it by itself")
    others = [file for file in files if _is_unread_image(file)]
    reason = f"recon does not read such files; expected {IMAGE_EXTENSIONS_TEXT}"
    capture = _leaving_out(capture, others, reason)
    absent = [file for file in files if ICLOUD.fullmatch(file.name)]
    return _leaving_out(capture, absent, "not downloaded from iCloud yet; open or download them")


def read_several(sources: Sequence[Path], video_frames: int | None) -> Capture:
    """Read several photos, folders or archives of photos, or patterns of their names, as one.

    Cameras in these folders are not read. Warnings name files that are left out.

    Raises:
        InputError: A path does not exist, or there is no photo.
    """
    photos: list[Path] = []
    found: list[Capture] = []
    videos: list[Path] = []
    others: list[Path] = []
    lost: list[str] = []
    for source in _existing(sources):
        if source.is_dir():
            found.append(read_photos(source, video_frames))
        elif is_image(source):
            photos.append(source)
        elif is_video(source):
            videos.append(source)
        elif is_archive(source):
            folder, left_out = unpacked(source)
            lost += left_out
            with told_as_archive(folder, source):
                found.append(read_photos(folder, video_frames))
        else:
            others.append(source)
    photos += [frame.image_path for capture in found for frame in capture.frames]
    lost += [name for capture in found for name in capture.left_out]
    if not photos and len(videos) == 1:
        capture = read_video(videos.pop(), video_frames)
    elif not photos and videos:
        raise InputError(f"there are {len(videos)} videos, {_names(videos)}; pass one of them")
    elif not photos and others:
        raise InputError(f"{others[0]} is not an image; expected one of {IMAGE_EXTENSIONS_TEXT}")
    else:
        photos, maps = without_maps(without_masks(photos))
        capture = _without_raw_twins(read_files(photos))
        reason = "beside a photo, by its name a map of depth, normals or the like"
        capture = _leaving_out(capture, maps, reason)
    capture = replace(capture, left_out=(*capture.left_out, *lost))
    capture = _leaving_out(capture, videos, "a video beside photos; pass it by itself")
    return _leaving_out(capture, others, f"no photo; expected {IMAGE_EXTENSIONS_TEXT}")


def is_pattern(path: Path) -> bool:
    """Return whether a path that does not exist is a pattern such as `photos/*.jpg`."""
    return glob.has_magic(str(path)) and not path.exists()


def _existing(sources: Sequence[Path]) -> list[Path]:
    """Return the paths that patterns stand for, and others as they are."""
    found: list[Path] = []
    for source in sources:
        if is_pattern(source):
            root = Path(source.anchor)
            matches = sorted(
                root.glob(str(source.relative_to(root))), key=lambda path: natural_key(str(path))
            )
            if not matches:
                raise InputError(f"no file fits {source}; check the pattern")
            found += matches
        elif not source.exists():
            raise InputError(f"image not found: {source}; check the path")
        else:
            found.append(source)
    return found


def _only_video(folder: Path, video_frames: int | None) -> Capture:
    """Read the one video in a folder or its subfolders."""
    videos = [
        Path(above) / name
        for above, _, names in sorted(os.walk(folder))
        for name in sorted(names)
        if is_video(Path(name))
    ]
    if not videos:
        return read_folder(folder)
    if len(videos) > 1:
        raise InputError(
            f"{folder} has no photos, and {len(videos)} videos, {_names(videos)}; "
            "pass one of them, or a folder of photos"
        )
    warn(f"{folder} has no photos; its video {videos[0].relative_to(folder)} is used")
    return read_video(videos[0], video_frames)


def _without_raw_twins(capture: Capture) -> Capture:
    """Leave out RAW photos beside a developed photo of the same name."""
    developed = {
        _shot(frame.image_path) for frame in capture.frames if not is_raw(frame.image_path)
    }
    twins = [
        frame.image_path
        for frame in capture.frames
        if is_raw(frame.image_path) and _shot(frame.image_path) in developed
    ]
    rest = tuple(frame for frame in capture.frames if frame.image_path not in twins)
    reason = "RAW beside a developed photo of the same name"
    return _leaving_out(replace(capture, frames=rest), twins, reason)


def _shot(path: Path) -> tuple[Path, str]:
    """Return what is equal for files of the same shot in several formats."""
    return path.parent, PIXEL_TWIN.sub("", path.stem.lower())


def _leaving_out(capture: Capture, files: Sequence[Path], reason: str) -> Capture:
    """Name files that are not used in a warning and in the capture."""
    if not files:
        return capture
    warn(f"left out {counted(len(files), 'file')}, {_names(files)}: {reason}", LeftOutWarning)
    return replace(capture, left_out=(*capture.left_out, *(file.name for file in files)))


def _names(files: Sequence[Path]) -> str:
    return listed([file.name for file in files])


def _is_unread_image(file: Path) -> bool:
    """Return whether a file is an image, by its extension or its content, that is not read."""
    suffix = file.suffix.lower()
    if suffix in NO_PHOTOS or file.name.startswith(".") or is_image(file) or is_video(file):
        return False
    if suffix in NOT_READ:
        return True
    try:
        with file.open("rb") as opened:
            return opened.read(8).startswith(SIGNATURES)
    except OSError:
        return False
