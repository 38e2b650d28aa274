"""Extensions of the photos and videos that recon reads, importable without their libraries."""

from pathlib import Path

RAW_EXTENSIONS = (
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".sr2", ".srf", ".raf", ".orf", ".rw2",
    ".rwl", ".pef", ".srw", ".3fr", ".fff", ".iiq", ".erf", ".mef", ".mos", ".mrw", ".kdc", ".dcr",
    ".x3f", ".gpr",
)  # fmt: skip
IMAGE_EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif",
    ".hif", ".avif", ".jxl", ".bmp", ".dib", ".gif", ".jp2", ".j2k", ".jpx", ".tga", ".ppm", ".pgm",
    ".pnm", *RAW_EXTENSIONS,
)  # fmt: skip
IMAGE_EXTENSIONS_TEXT = (
    ".jpg, .png, .webp, .tif, .heic, .avif, .jxl, .bmp, .gif, .jp2, .tga, .ppm or a RAW format"
)
VIDEO_EXTENSIONS = (
    ".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".mpg",
    ".mpeg", ".wmv", ".flv", ".ogv", ".mxf", ".asf", ".vob",
)  # fmt: skip


def is_image(path: Path) -> bool:
    """Return whether a file name is that of an image recon reads; hidden files do not count."""
    return path.suffix.lower() in IMAGE_EXTENSIONS and not path.name.startswith(".")


def is_raw(path: Path) -> bool:
    """Return whether a file name is that of a camera's RAW format."""
    return path.suffix.lower() in RAW_EXTENSIONS


def is_video(path: Path) -> bool:
    """Return whether a file name is that of a video that recon reads; hidden files do not count."""
    return path.suffix.lower() in VIDEO_EXTENSIONS and not path.name.startswith(".")
