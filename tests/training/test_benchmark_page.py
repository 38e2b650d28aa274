"""The committed page of the benchmark, and numbers in README.md that are measured."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from training.benchmark_report.captures import without_folders
from training.benchmark_report.pages import pages
from training.benchmark_report.plots import PLOTS, digest, drawn

DOCS = ROOT / "docs"
README = (ROOT / "README.md").read_text()


def test_committed_pages_come_from_the_committed_json() -> None:
    """The page is made again; of plots, the hash of their numbers is compared."""
    document = json.loads((DOCS / "benchmark.json").read_text())
    for name, text in pages(document).items():
        assert text == (DOCS / name).read_text(), name
    for name, (panels_of, _) in PLOTS.items():
        if panels := panels_of(document):
            assert drawn(DOCS / "benchmark" / f"{name}.png") == digest(panels), name


def test_committed_json_names_nothing_of_a_machine() -> None:
    text = (DOCS / "benchmark.json").read_text()
    assert without_folders(text) == text
    assert not re.search(r"/(home|tmp|root|work|opt|Users)\b", text)
    document = json.loads(text)
    assert re.fullmatch(r"[0-9a-f]{7}", document["commit"]) and not document["changed"]


def test_splits_of_few_photos_say_how_many_recon_saw() -> None:
    results = json.loads((DOCS / "benchmark.json").read_text())["results"]
    few = {k: v["photos"] for k, v in results.items() if re.fullmatch(r"quality/.*/\dv", k)}
    assert few and all(key.endswith(f"/{count}v") for key, count in few.items())


def test_times_in_readme_are_those_that_were_measured() -> None:
    document = json.loads((DOCS / "benchmark.json").read_text())
    text = re.sub(r"\s+", " ", README)
    counts = (
        r"two photos take (\d+) seconds, four (\d+) seconds, eight (\d+) seconds "
        r"and fifty (\d+) seconds"
    )
    claim = re.search(counts, text)
    assert claim is not None
    runs = ("fox/2", "fox/4", "fox/8", "fox/50")
    times = [document["results"][f"photos/{run}"]["seconds"] for run in runs]
    assert [int(each) for each in claim.groups()] == [round(each) for each in times]


# A number that is a cell of its own, or has a unit of a measurement.
MEASURED = re.compile(r"(?:^|(?<=[ (]))(\d+(?:[.,]\d+)*)(?= ?(?:s|ms|GB|MB|dB|degrees)\b|$)")


def unknown_numbers(text: str, known: set[str]) -> list[str]:
    """Return the measured numbers in tables that are not known.

    In a comparison with other programs, which has a column "recon", only that one is ours.
    """
    found, ours = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            ours = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if "recon" in cells and ours is None:
            ours = cells.index("recon")
        for cell in cells if ours is None else cells[ours : ours + 1]:
            found += [each for each in MEASURED.findall(cell) if each not in known]
    return found


def test_numbers_in_tables_of_readme_are_measured() -> None:
    """Each is in a page of measurements."""
    pages = [DOCS / "benchmark.md", *(DOCS / "benchmark").glob("*.md")]
    known = set(re.findall(r"\d+(?:[.,]\d+)*", " ".join(page.read_text() for page in pages)))
    assert unknown_numbers(README, known) == []


def test_unknown_numbers_are_found() -> None:
    table = "| a | recon | x |\n|---|---|---|\n| t | 7 s, 3 ways | 9 s |\n| q | 25.4 | 1 |"
    assert unknown_numbers(table, set()) == ["7", "25.4"]
    assert unknown_numbers(table, {"7"}) == ["25.4"]
    assert unknown_numbers("| mine |\n|---|\n| 8.1 dB |\n| 4.0 ways |\n\n8 s", set()) == ["8.1"]


def test_make_passes_options_on() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    words = ["make", "-n", "benchmark", "QUICK=1", "CAPTURES=../my captures"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    command = " ".join(done.stdout.replace("\\\n", " ").split())
    assert "-m training.benchmark_report --captures '../my captures' --quick" in command
