"""Sums of file sizes by attribute, shared by the formats."""

from collections.abc import Iterable

# Prefixes of the names of properties, files and streams; the first match counts.
_ATTRIBUTES = {
    "packed_position": "positions", "packed_rotation": "rotations", "packed_scale": "scales",
    "packed_color": "colours and opacities", "f_dc": "colours", "f_rest": "SH", "shN": "SH",
    "sh0": "colours and opacities", "scale": "scales", "rot": "rotations", "quat": "rotations",
    "opacity": "opacities", "alpha": "opacities", "color": "colours", "mean": "positions",
    "pos": "positions", "sh": "SH", "x": "positions", "y": "positions", "z": "positions",
}  # fmt: skip


def sum_by_attribute(sizes: Iterable[tuple[str, float]], count: int) -> dict[str, float]:
    """Sum the sizes of named properties, files or streams by attribute, in bytes per Gaussian."""
    totals: dict[str, float] = {}
    for name, size in sizes:
        attribute = _attribute(name)
        totals[attribute] = totals.get(attribute, 0.0) + size / count
    return totals


def _attribute(name: str) -> str:
    matches = (
        kind for start, kind in _ATTRIBUTES.items() if name.lower().startswith(start.lower())
    )
    return next(matches, "other")
