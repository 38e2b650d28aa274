"""Every name and every text uses the terms of the field (glossary: docs/conventions.md)."""

import bisect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SUFFIXES = {".py", ".md", ".yaml", ".toml", ".cpp", ".h", ".txt", ".js"}

# Banned words (patterns, whole words, any case) -> the term to use instead. The humps of a
# CamelCase name and the parts of a snake_case name are words.
BANNED = {
    # One word for one thing.
    r"pictures?": "image, or photo for a file of the user",
    r"places?": "position, pose, location",
    r"turns?": "rotation, or a verb",
    r"turned": "rotated",
    r"the (same|exact|total) counts?|counts? alone": "number of",
    r"(a|the|this|its|what|by|largest|fixed|their) share|shares? of": "fraction, ratio",
    r"shares?(?=_| ?=[^=]| ?:)|(?<=_)shares?": "fraction, ratio",
    r"films?": "clip (of RealEstate10K), video",
    r"scratch": "temporary, baseline",
    # Private metaphors.
    r"ballots?|unanimous(ly)?|witness(es)?": "gradient agreement",
    r"votes?|voting|polls?|beliefs?": "consistency, confidence, distribution",
    r"lessons?|judge[sd]?|judging": "training views, evaluate",
    r"truth": "ground truth, reference",
    r"(a|no|one|first|last) look|looks?(?= ?[=:,)\]])": "evaluation view, display settings",
    r"(?-i:Looks?)(?=[(:,. ]|[A-Z])": "evaluation view, display settings",
    r"imagin(e|es|ed|ing)": "synthesise, synthetic",
    r"survive[sd]?": "remain, pass the filter",
    r"hold ?outs?": "held-out, early stopping",
    r"logbooks?": "metrics logger",
    r"house|(ground|first|second) floor": "package, layer",
    r"mend(s|ed|ing)?": "fix, repair",
    r"wish(es|ed)?": "option, request",
    # Names that were replaced.
    r"useful_steps|scratch_\w+|_Answer|(?-i:MEANINGFUL|ALONE)|Packers?": "see the glossary",
    r"Refine_?Config|Refined|Prune_?Config": "OptimiseConfig, ...",
    r"(?<!Plane)Sweep_?(Config|Network)": "CostVolumeConfig, ...",
    # Phrases.
    r"what (comes|came|becomes|became|goes|went) (of|into|out)": "result, output",
    r"so (many|few)": "a number",
    r"the (least|most) that|at the most": "minimum, at least, at most",
    r"hangs? on|from beside|as often as it takes|no more than is needed": "plain English",
    r"of our own making|all that there is|whatever else|of a user's": "plain English",
}
# Idioms and foreign names in which such a word is right.
ALLOWED = [
    r"(in|In|take|takes|taking) place", r"decimal places?", r"places? after the decimal point",
    r"\.poll\(", r"in (its |their )?turn", r"[Tt]urns? (it |them )?(on|off|into|out|back)",
    r"[Tt]urns? (a|an|the|photos)", r"scratch((?=\()|[_ ](memory|buffers?|space|floats))",
    r"from scratch", r"ground[- _]truth", r"so (many|few) (\w+ )?that", r"looks? (like|up|at|for)",
    r"show_share_button", r"place-(items|content|self)", r"--pictures",
]  # fmt: skip

NOT_SEARCHED = ("tests/test_words.py", "tests/golden/", "assets/licenses/")


def files() -> list[Path]:
    """Return all sources, tests, configurations and pages of the project."""
    folders = ("render", "recon", "training", "viewer", "tests", "configs", "docs", "examples",
               "release")  # fmt: skip
    found = [p for name in folders for p in sorted((ROOT / name).rglob("*")) if p.is_file()]
    names = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "CMakeLists.txt")
    found += [ROOT / name for name in names]
    found += sorted((ROOT / "assets").glob("*.md"))
    paths = [p for p in found if p.suffix in SUFFIXES and "__pycache__" not in p.parts]
    return [p for p in paths if not relative(p).startswith(NOT_SEARCHED)]


def relative(path: Path) -> str:
    """Return the path from the root of the project, with slashes."""
    return path.relative_to(ROOT).as_posix()


# A wrapped line of prose or of a comment goes on after a space.
WRAP = re.compile(r"\s+(?:(?:#|//|>)\s+)?")
ALLOWED_WORDS = re.compile(r"(?:(?<![A-Za-z])|(?=\.))(?:" + "|".join(ALLOWED) + r")(?![a-z])")
BANNED_WORDS = {
    re.compile(rf"(?i)(?:(?<![a-z])|(?<=[a-z])(?-i:(?=[A-Z])))(?:{pattern})(?![a-z])"
               rf"|(?<![A-Za-z])(?:{pattern})(?-i:(?=[A-Z]))"): use
    for pattern, use in BANNED.items()
}  # fmt: skip


def hits(text: str) -> list[tuple[int, str, str]]:
    """Return (line, found, term to use) of every banned word in a text."""
    plain = WRAP.split(text)
    flat = " ".join(plain)
    breaks = [m.end() for m in WRAP.finditer(text)]
    starts, position = [], 0
    for piece in plain:
        starts.append(position)
        position += len(piece) + 1
    flat = ALLOWED_WORDS.sub(lambda m: "." * len(m[0]), flat)
    found = []
    for pattern, use in BANNED_WORDS.items():
        for match in pattern.finditer(flat):
            piece = bisect.bisect_right(starts, match.start()) - 1
            origin = breaks[piece - 1] if piece else 0
            found.append((text.count("\n", 0, origin) + 1, match[0], use))
    return sorted(found)


def all_hits() -> list[str]:
    """Return one line for every banned word in the project."""
    return [
        f"{relative(path)}:{line}: {found!r} -> {use}"
        for path in files()
        for line, found, use in hits(path.read_text(encoding="utf-8"))
    ]


def test_words() -> None:
    found = all_hits()
    assert not found, "\n".join(["banned words:", *found])


@pytest.mark.parametrize("command", ["", "view", "render", "compress", "convert", "info", "eval",
                                     "train", "data convert", "data render-meshes", "batch",
                                     "bench", "doctor"])  # fmt: skip
def test_words_of_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    from recon.cli.main import main

    main([*command.split(), "--help"])
    assert hits(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("text", "banned"),
    [
        ("a picture of it", True),
        ("class Ballot:", True),
        ("def cast_ballot(self)", True),
        ("so many\n    # fewer", True),
        ("rounded in place", False),
        ("to six decimal places", False),
        ("trained from scratch", False),
        ("which in turn calls", False),
        ("process.poll()", False),
        ("the ground truth", False),
        ("two threads share a pool", False),
        ("the share of pixels", True),
        ("so many photos that memory ends", False),
    ],
)
def test_patterns(text: str, banned: bool) -> None:
    assert bool(hits(text)) == banned, hits(text)
