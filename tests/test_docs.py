"""The pages of the documentation: their links lead somewhere, and they stay short."""

import re
from pathlib import Path

import pytest
from conftest import ROOT

ROOT_PAGES = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
PAGES = [*ROOT_PAGES, *sorted(ROOT.glob("assets/*.md")), *sorted(ROOT.rglob("docs/**/*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# Files that pages name in code style, such as `render/rasterize.py`.
FILE = re.compile(r"`((?:render|recon|training|viewer|tests|configs|examples|docs)/[\w./-]+)`")
MAX_LINES = 200


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ +(.*)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (
            anchor and anchor not in anchors(target.read_text(encoding="utf-8"))
        ):
            broken.append(link)
    return broken


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_exist(page: Path) -> None:
    assert not broken_links(page, page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    named = FILE.findall(page.read_text(encoding="utf-8"))
    missing = [path for path in named if "NAME" not in path and not (ROOT / path).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_pages_are_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_every_experiment_is_in_the_index() -> None:
    folder = ROOT / "docs" / "experiments"
    index = LINK.findall((folder / "README.md").read_text(encoding="utf-8"))
    pages = {page.name for page in folder.glob("*.md")} - {"README.md"}
    assert pages == {link for link in index if link.endswith(".md")}


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "there.md").write_text("# A heading, here\n")
    text = "[a](there.md) [b](gone.md) [c](there.md#a-heading-here) [d](there.md#x) [e](https://x)"
    assert broken_links(tmp_path / "page.md", text) == ["gone.md", "there.md#x"]


def test_every_configuration_is_in_the_table() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    table = text.partition("| configs/ |")[2].partition("\n\n")[0]
    named = re.findall(r"[\w-]+\.yaml", table)
    assert sorted(named) == sorted(path.name for path in (ROOT / "configs").glob("*.yaml"))


def test_no_name_stands_twice_in_the_table_of_networks() -> None:
    text = (ROOT / "docs" / "tutorials" / "researcher.md").read_text()
    names = re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)
    assert len(names) == len(set(names)) >= 5
