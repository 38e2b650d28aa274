"""The regression gate: numbers on data of the project must not become worse than the stored ones.

After an improvement: python -m training.benchmark_report.gate --write
"""

import json
from pathlib import Path

import pytest

from recon.errors import InputError
from training.benchmark_report.gate import CASES, KINDS, STORED, falls, measure, read_stored


@pytest.mark.slow
def test_no_number_became_worse() -> None:
    lines = falls(read_stored(), measure())
    assert not lines, "\n".join(lines)


def test_all_parts_are_stored() -> None:
    stored = read_stored()
    assert len(stored) == 2 * sum(map(len, CASES.values())) + 2 * len(STORED)
    assert falls(stored, stored) == []


@pytest.mark.parametrize("unit", KINDS)
def test_a_fall_fails_in_its_direction_only(unit: str) -> None:
    stored = read_stored()
    name = next(each for each in stored if each.endswith(f": {unit}"))
    kind = KINDS[unit]
    worse = kind.absolute + kind.relative * abs(stored[name])
    worse = worse if kind.lower_is_better else -worse
    assert falls(stored, {**stored, name: stored[name] + 0.9 * worse}) == []
    assert falls(stored, {**stored, name: stored[name] - 10 * worse}) == []
    (line,) = falls(stored, {**stored, name: stored[name] + 1.1 * worse})
    assert line.startswith(f"{name}: ") and "(stored: " in line


def test_a_number_that_is_no_longer_measured_fails() -> None:
    stored = read_stored()
    name = next(iter(stored))
    (line,) = falls(stored, {key: value for key, value in stored.items() if key != name})
    assert line.endswith("but it was not measured")


def test_stored_numbers_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    with pytest.raises(InputError, match="cannot be read"):
        read_stored(path)
    path.write_text(json.dumps({"a: seconds": 1.0}))
    with pytest.raises(InputError, match="'a: seconds' must end with one of PSNR"):
        read_stored(path)
