"""Matching pairs of photos in several processes at a time."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from recon.capture.isolated import run_scripts
from recon.cores import allowed_cores

# A process has one thread that matches and one that verifies matches.
THREADS_PER_PROCESS = 2
# A process computes the search index of each of its images anew, which pays for this many pairs.
MIN_PAIRS_PER_PROCESS = 100


def count_processes(num_pairs: int) -> int:
    """Return how many processes match this many pairs."""
    most = allowed_cores() // THREADS_PER_PROCESS
    return max(1, min(most, num_pairs // MIN_PAIRS_PER_PROCESS))


def match_pairs(
    command: tuple[str, ...], job_file: Path, limit_s: float, processes: int | None = None
) -> str | None:
    """Match the pairs of a job, a part of them in each process.

    Threads of one process cannot match at the same time: OpenBLAS, as pycolmap has it, hands two
    threads the same memory now and then, and a few matches differ from run to run. The outcome does
    not depend on the number of processes, since pairs are matched independently.

    Args:
        command: Name of the script that matches, and its arguments before the job file.
        job_file: The job, with the list of pairs and the database that receives the matches.
        limit_s: Time limit (s).
        processes: Number of processes; by default what the cores and the number of pairs allow.

    Returns:
        None after success, otherwise the last line that a process wrote to stderr.

    Raises:
        subprocess.TimeoutExpired: A process took longer than `limit_s` seconds.
    """
    script, *arguments = command
    job: dict[str, Any] = json.loads(job_file.read_text(encoding="utf-8"))
    pairs = Path(job["pairs"]).read_text(encoding="utf-8").splitlines()
    processes = count_processes(len(pairs)) if processes is None else processes
    calls, databases = [], []
    for part in range(processes):
        own = dict(job)
        if part > 0:
            own["database"] = str(job_file.with_name(f"part{part}.db"))
            shutil.copyfile(job["database"], own["database"])
            databases.append(Path(own["database"]))
        own["pairs"] = str(job_file.with_name(f"part{part}.txt"))
        first, end = (len(pairs) * i // processes for i in (part, part + 1))
        Path(own["pairs"]).write_text("\n".join(pairs[first:end]) + "\n", encoding="utf-8")
        own_file = job_file.with_name(f"part{part}.json")
        own_file.write_text(json.dumps(own), encoding="utf-8")
        calls.append((script, [*arguments, str(own_file)]))
    reason = run_scripts(calls, limit_s)
    if reason is None:
        _merge(Path(job["database"]), databases)
    return reason


def _merge(database: Path, parts: list[Path]) -> None:
    """Copy matches and two-view geometries of other databases that this one lacks."""
    for part in parts:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("ATTACH ? AS part", (str(part),))
            for table in ("matches", "two_view_geometries"):
                connection.execute(f"INSERT OR IGNORE INTO {table} SELECT * FROM part.{table}")
            connection.commit()
        part.unlink()
