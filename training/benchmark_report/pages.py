"""The two pages of a benchmark, made from its JSON alone.

What is said in `page.md` beside this file holds for every machine; a line `<!-- NAME -->` there is
replaced by the table or text NAME, and a section whose measurements are missing is left out.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from recon.files import atomic_output
from training.benchmark_report import tables
from training.benchmark_report.tables import Document
from training.evaluation.lpips import VGG16_FILE

PAGE = "benchmark.md"
# The second page, and the sections that are on it.
SPEED_PAGE, SPEED_SECTIONS = (
    "benchmark/files-and-speed.md",
    ("## Files\n", "## Rasterizer\n", "## Networks\n"),
)
SPEED_HEAD = """# Files and speed

A part of the [benchmark](../benchmark.md), generated with it; edits are lost.

"""
TEMPLATE = Path(__file__).with_name("page.md")
MARK = re.compile(r"<!-- ([\w ]+) -->")
# Sections of the template, and the first part of the keys of their measurements.
TABLES: Mapping[str, tuple[str, Callable[[Document], list[str]]]] = {
    "summary": ("quality", tables.summary),
    "quality": ("quality", tables.quality),
    "equal time": ("equal time", tables.equal_time),
    "photos": ("photos", tables.photos),
    "poses": ("poses", tables.poses),
    "files": ("files", tables.files),
    "raster": ("raster", tables.raster),
    "networks": ("networks", tables.networks),
}


def write_pages(document: Document, docs: Path) -> None:
    """Write the pages of a document into a folder."""
    for name, text in pages(document).items():
        (docs / name).parent.mkdir(exist_ok=True)
        with atomic_output(docs / name) as temporary:
            temporary.write_text(text, encoding="utf-8")


def pages(document: Document) -> dict[str, str]:
    """Return the pages as Markdown, by their paths in the documentation."""
    first, speed = "", SPEED_HEAD
    for part in _sections(document):
        if part.startswith(SPEED_SECTIONS):
            speed += part.replace("](benchmark/", "](")
        else:
            first += part
    return {PAGE: first.rstrip() + "\n", SPEED_PAGE: speed.rstrip() + "\n"}


def _sections(document: Document) -> list[str]:
    """Return the sections of both pages that have measurements; the first is the introduction."""
    made = {name: "\n".join(lines(document)) for name, lines in TEXTS.items()}
    measured = {key.split("/")[0] for key in document["results"]}
    for name, (section, lines) in TABLES.items():
        made[name] = "\n".join(lines(document)) if section in measured else ""
    parts = re.split(r"(?m)^(?=## )", TEMPLATE.read_text(encoding="utf-8"))
    kept = [part for part in parts if all(made[name] for name in MARK.findall(part))]
    return [MARK.sub(lambda match: made[match[1]], part) for part in kept]


def _measured(document: Document) -> list[str]:
    """Say what was measured, where and when."""
    machine = document["machine"]
    lines = [
        f"- Plan: {document['plan']}. Commit: {document['commit']}"
        + (", with changes that are not in it" if document["changed"] else "")
        + f", version {document['version']}, {document['date']}.",
        f"- Machine: {machine['system']}, {machine['processor']}, kernel "
        f"{machine['instruction_set']}, cores: {machine['cores']}, threads: {machine['threads']}, "
        f"torch {machine['torch']}.",
    ]
    if machine["cores_of_others"] is None:
        lines.append("- Whether other programs ran at the same time is not known.")
    elif not machine["quiet"]:
        lines.append(
            "- **The machine was not quiet**: other programs kept up to "
            f"{machine['cores_of_others']:.1f} of these cores busy. Times are longer than on a "
            "quiet machine, and scores after equal times less certain; nothing else depends on it."
        )
    else:
        lines.append("- The machine was quiet: no other program used a core.")
    return lines


def _perceptual(document: Document) -> list[str]:
    """Say which perceptual metric there is."""
    texts = {
        "lpips": "LPIPS with VGG16, lower is better.",
        "st_lpips": "ST-LPIPS with AlexNet, lower is better. LPIPS replaces it where\n"
        f"  torchvision's `{VGG16_FILE}` is in torch's download cache, which was not so here.",
        None: "No perceptual metric: its weights were not on the machine.",
    }
    return [f"- {texts[document['perceptual']]}"]


def _skipped(document: Document) -> list[str]:
    """List what is missing, with the reasons."""
    reasons: dict[str, list[str]] = {}
    for each in document["skipped"]:
        reasons.setdefault(each["reason"], []).append(each["key"])
    return [f"- {', '.join(keys)}: {reason}" for reason, keys in reasons.items()]


def _speed(document: Document) -> list[str]:
    """Say what the rasterizer's benchmark gives beside its table."""
    raster = document["results"].get("raster")
    if raster is None:
        return []
    lines = [f"Kernel {raster['instruction_set']}, up to {raster['threads']} threads."]
    if "reference_s1" in raster:
        found = raster["reference_s1"]
        lines.append(
            f"The float64 torch reference takes {found['wall_ms']:,.0f} ms forward and backward on "
            f"s1, {found['ratio']:.0f} times the kernel's time."
        )
    if raster.get("memory_s3_mb") is not None:
        lines.append(f"s3 needs {raster['memory_s3_mb']:.0f} MB beyond inputs and outputs.")
    return [" ".join(lines)]


TEXTS: Mapping[str, Callable[[Document], list[str]]] = {
    "measured": _measured,
    "perceptual": _perceptual,
    "skipped": _skipped,
    "speed": _speed,
}
