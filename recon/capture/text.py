"""Text and JSON files as other tools and systems write them."""

import codecs
import json
from pathlib import Path
from typing import Any

from recon.errors import InputError
from recon.stand_ins import check_stand_in, head_of

# The marks of UTF-32 begin with those of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def read_text(path: Path) -> str:
    """Read a text file: UTF-8, UTF-16 or UTF-32 with or without a mark, else Windows' own.

    Raises:
        InputError: It cannot be read or decoded.
    """
    try:
        content = path.read_bytes()
        check_stand_in(path, content)
        return content.decode(_encoding(content))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read {path}: {error}; expected a text file") from error


def text_head(path: Path, size: int = 4096) -> str:
    """Return the beginning of a file as text, up to a number of bytes; "" if it cannot be read.

    What is no text gives characters without a meaning: the file may belong to something else.
    """
    content = head_of(path, size)
    return content.decode(_encoding(content), errors="replace")


def _encoding(content: bytes) -> str:
    for mark, encoding in MARKS.items():
        if content.startswith(mark):
            return encoding
    # The files that are read here begin with ASCII.
    if content[1:2] == b"\0":
        return "utf-16-le"
    if content[:1] == b"\0":
        return "utf-16-be"
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def read_json(path: Path, layout: str, kinds: tuple[type, ...] = (dict,)) -> Any:
    """Read a JSON object, or a value of other kinds.

    Args:
        path: The file.
        layout: What it should be, for messages.
        kinds: Kinds of values that are accepted.

    Raises:
        InputError: It is not valid JSON, or of another kind.
    """
    try:
        document = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}); expected {layout}; export it again"
        ) from error
    if not isinstance(document, kinds):
        raise InputError(f"{path} holds a {type(document).__name__}; expected a JSON object")
    return document
