"""Measure the benchmark, and write its JSON, pages and plots.

make benchmark CAPTURES=FOLDER, or QUICK=1. A run that was ended goes on where it was.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from recon.errors import InputError
from recon.files import atomic_output, check_output
from recon.reporting import note, say
from training.benchmark_report.captures import ROOT
from training.benchmark_report.pages import PAGE, write_pages
from training.benchmark_report.plan import FULL, QUICK
from training.benchmark_report.plots import write_plots
from training.benchmark_report.record import Run, measure_all
from training.programs import program


@program
def main(words: Sequence[str] | None = None) -> None:
    """Measure what the plan names; exit with code 2 on a user error."""
    parser = argparse.ArgumentParser(
        prog="python -m training.benchmark_report",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--captures", type=Path, metavar="FOLDER", help="folder of captures")
    parser.add_argument(
        "--quick", action="store_true", help="a quarter of an hour instead of two hours"
    )
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", metavar="FOLDER",
        help="folder to write benchmark.json, benchmark.md and benchmark/ to (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--state", type=Path, default=ROOT / "build" / "benchmark", metavar="FOLDER",
        help="folder for measurements that are done (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=math.inf,
        help="time after which no further measurement begins; the next run goes on",
    )  # fmt: skip
    parser.add_argument("--from-json", action="store_true", help="only write the pages again")
    options = parser.parse_args(words)
    try:
        run(options)
    except KeyboardInterrupt:
        note("ended; the same command goes on where it was")
        sys.exit(130)


def run(options: argparse.Namespace) -> None:
    """Measure unless only pages are wanted, then write everything."""
    path = options.docs / "benchmark.json"
    if not options.docs.is_dir():
        raise InputError(f"--docs {options.docs} is no folder; name one that exists")
    if options.from_json:
        found = read_document(path)
    else:
        if options.captures is not None and not options.captures.is_dir():
            raise InputError(f"--captures {options.captures} is no folder; name one of captures")
        check_output(path)
        plan = QUICK if options.quick else FULL
        run_of_plan = Run.of(plan, options.captures, options.state)
        found = measure_all(run_of_plan, note, options.minutes)
        with atomic_output(path) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    write_pages(found, options.docs)
    write_plots(found, options.docs)
    say(f"wrote {path.name}, {PAGE} and plots to {options.docs}")


def read_document(path: Path) -> dict:  # type: ignore[type-arg]
    """Read a benchmark's JSON; raise InputError if there is none or it is of another kind."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"no {path}; measure first, without --from-json") from error
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}); measure again") from error
    if not isinstance(found, dict) or "results" not in found:
        raise InputError(f"{path}: expected the JSON of a benchmark, with 'results'")
    return found


if __name__ == "__main__":
    main()
