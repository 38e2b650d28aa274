"""`recon eval CAPTURE --split NAME`: quality on photos that were held out."""

import json as json_module
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from recon.cli.options import ReconstructOptions
from recon.errors import ReconError
from recon.reporting import progress_reporter, say


@dataclass(frozen=True)
class Evaluate:
    """Reconstruct from a split's context photos and measure on its target photos."""

    capture: tyro.conf.Positional[Path | None] = None
    """Capture folder with cameras and a splits.json."""
    split: str = "2v"
    """Name of the split: its context photos go in, its target photos are held out."""
    suite: Path | None = None
    """YAML file with many captures and splits, or a RealEstate10K test set, instead of one."""
    options: Annotated[ReconstructOptions, tyro.conf.OmitArgPrefixes] = field(
        default_factory=ReconstructOptions
    )
    pictures: Path | None = None
    """Also write the renders beside the held-out photos into this folder."""
    json: Path | None = None
    """Also write all numbers as JSON (file)."""
    table: Path | None = None
    """Also write the table as Markdown (file)."""
    quiet: bool = False
    """Print nothing but errors and the table."""

    def run(self) -> None:
        """Print a table; write the files whole or not at all."""
        from recon.files import atomic_output, check_output

        settings = self.options.config()

        if (self.capture is None) == (self.suite is None):
            raise ReconError("recon eval needs a capture or --suite FILE; give one of them")
        for output in filter(None, (self.json, self.pictures, self.table)):
            check_output(output)
        from training.evaluation.reconstruction import evaluate_cases
        from training.evaluation.report import as_table, write_pictures
        from training.evaluation.suite import Case, Suite, read_suite

        if self.suite is not None:
            suite = read_suite(self.suite)
        else:
            assert self.capture is not None
            suite = Suite((Case(self.capture, self.split),), None)
        document: dict[str, Any] = {}
        with progress_reporter(self.quiet) as progress:
            results = evaluate_cases(suite.cases, settings, progress)
            if suite.films is not None:
                from training.evaluation.realestate10k import evaluate_films

                found, skipped = evaluate_films(suite.films, settings, progress)
                results += found
                document["skipped"] = dict(skipped.reasons)
        table = as_table(results)
        say(table)
        for reason, count in document.get("skipped", {}).items():
            say(f"skipped: {reason} ({count})")
        document["cases"] = [result.as_dict() for result in results]
        if self.json is not None:
            with atomic_output(self.json) as temporary:
                temporary.write_text(json_module.dumps(document, indent=1) + "\n")
        if self.table is not None:
            with atomic_output(self.table) as temporary:
                temporary.write_text(table + "\n")
        if self.pictures is not None:
            with atomic_output(self.pictures) as temporary:
                write_pictures(temporary, results)
