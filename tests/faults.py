"""Fault injection: every command with a full disk, closed output, signals, little memory.

python tests/faults.py [--only COMMAND ...] prints the table of docs/benchmark/faults.md. Mounting
a small disk and giving up rights need root; without it these columns say "not run".
"""

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from helpers import random_gaussians

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "assets" / "sample"
SMALL = ["--resolution", "64", "--max-views", "2", "--refine", "2"]
# Command lines; IN is a folder with a scene, OUT the folder to write to.
COMMANDS = {
    "reconstruct": f"{SAMPLE} -o OUT/s.ply --save-cameras OUT/c.json {' '.join(SMALL)}",
    "solve": f"IN/photos -o OUT/s.ply --no-cache {' '.join(SMALL)}",
    "view": "view IN/s.ply --static OUT/page",
    "render": "render IN/s.ply -o OUT/r --path orbit --num-frames 4 --size 160x120",
    "video": "render IN/s.ply -o OUT/v.mp4 --num-frames 4 --size 160x120",
    "compress": "compress IN/s.ply -o OUT/c.sog --keep 0.5",
    "convert": "convert IN/s.ply -o OUT/c.glb",
    "info": f"info {SAMPLE} --json OUT/i.json",
    "eval": f"eval {SAMPLE} --json OUT/e.json --save-renders OUT/r {' '.join(SMALL)}",
    "train": "train size=tiny out=OUT/run dataset.width=64 dataset.height=48 optimiser.steps=3",
    "data": "data convert IN/clips -o OUT/shards",
    "render-meshes": "data render-meshes IN/m.obj.txt -o OUT/shards --views 2 --size 32",
    "batch": f"batch IN/captures.txt -o OUT/scenes --model plane-sweep {' '.join(SMALL)}",
    "bench": "bench raster --scenes s1 --degrees 0 --repeats 2 --json OUT/b.json",
    "mesh": "mesh IN/s.ply -o OUT/m.glb",
    "doctor": "doctor --json OUT/d.json",
}
# The memory limits (RLIMIT_AS) that are tried (MB).
MEMORY_MB = (200, 400, 700, 1000, 1400, 2000, 3000)
SIGNALS_EACH = 10
# What may stay: folders with which a training, a conversion or a batch can go on, and torch's own
# cache.
KEPT = ("out/run", "out/shards", "out/scenes", "tmp/torchinductor")
# A signal ends a command within this time (s).
MAX_STOP_S = 3.0


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    errors: str
    seconds: float
    left: tuple[str, ...]
    """Files in the output folder and that of temporary files."""

    def complaints(self, codes: tuple[int, ...], limit_s: float = 600.0) -> list[str]:
        """Return what a user would complain about, given the exit codes that are right."""
        lines = self.errors.splitlines()
        errors = [line for line in lines if line.startswith("recon: error: ")]
        found = []
        if self.code not in codes:
            found.append(f"exit code {self.code}: {self.errors.strip()[-200:]!r}")
        if "Traceback" in self.errors:
            found.append("traceback")
        if self.code == 2 and len(errors) != 1:
            found.append(f"{len(errors)} lines of errors: {self.errors.strip()[-200:]!r}")
        if self.code != 0 and self.left:
            found.append(f"left {', '.join(self.left)}")
        if self.seconds > limit_s:
            found.append(f"took {self.seconds:.1f} s")
        return found


class Bench:
    """Runs commands in folders of their own."""

    def __init__(self, work: Path) -> None:
        from recon.formats import save_gaussians

        self.work, self.inputs = work, work / "in"
        (self.inputs / "photos").mkdir(parents=True)
        work.chmod(0o755)
        scene = random_gaussians(3000, torch.Generator().manual_seed(0)).to(torch.float32)
        save_gaussians(self.inputs / "s.ply", scene)
        for index in range(0, 8, 3):
            shutil.copy(SAMPLE / "images" / f"00{index}.jpg", self.inputs / "photos")
        (self.inputs / "m.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
        (self.inputs / "m.obj.txt").write_text("m.obj\n")
        (self.inputs / "captures.txt").write_text(f"{SAMPLE}\n")
        (self.inputs / "clips").mkdir()
        rows = [f"{time} 1 1 .5 .5 0 0 1 0 0 {time} 0 1 0 0 0 0 1 0" for time in range(8)]
        (self.inputs / "clips" / "a.txt").write_text("\n".join(["url", *rows]))
        shutil.copytree(SAMPLE / "images", self.inputs / "clips" / "a")
        for index in range(8):
            (self.inputs / "clips" / "a" / f"00{index}.jpg").rename(
                self.inputs / "clips" / "a" / f"{index}.jpg"
            )
        self.out, self.temporary = work / "out", work / "tmp"

    def run(
        self,
        words: str,
        *,
        prepare: Callable[[], None] | None = None,
        stop: tuple[int, float] | None = None,
        stdout: int = subprocess.DEVNULL,
        close_stdout: bool = False,
        prefix: Sequence[str] = (),
    ) -> Ended:
        """Run a command, and signal it after a time if `stop` is given."""
        for folder in (self.out, self.temporary):
            folder.mkdir(exist_ok=True)
        command = words.replace("IN/", f"{self.inputs}/").replace("OUT/", f"{self.out}/").split()
        known = {"TMPDIR": str(self.temporary), "RECON_CACHE": str(self.work / "cache")}
        environment = os.environ | known | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}

        def begin() -> None:
            if close_stdout:
                os.close(1)
            if prepare is not None:
                prepare()

        process = subprocess.Popen(
            [*prefix, sys.executable, "-m", "recon", *command],
            env=environment, stdout=stdout, stderr=subprocess.PIPE, text=True, preexec_fn=begin,
        )  # fmt: skip
        started = time.monotonic()
        if stop is not None:
            time.sleep(stop[1])
            process.send_signal(stop[0])
            started = time.monotonic()
        _, errors = process.communicate(timeout=600)
        left = tuple(
            name
            for folder in (self.out, self.temporary)
            for path in sorted(folder.rglob("*"))
            if not (name := str(path.relative_to(self.work))).startswith(KEPT) or "/.recon-" in name
        )
        ended = Ended(process.returncode, errors, time.monotonic() - started, left)
        self.clear()
        return ended

    def clear(self) -> None:
        """Delete what a command has written."""
        for folder in (self.out, self.temporary):
            if not folder.is_mount():
                shutil.rmtree(folder, ignore_errors=True)
                continue
            for path in folder.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def full_disk(bench: Bench, words: str) -> list[str]:
    """The disk of the outputs, then that of temporary files, has 16 kB."""
    found = []
    for folder in (bench.out, bench.temporary):
        folder.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", folder], check=True)
        try:
            ended = bench.run(words)
        finally:
            subprocess.run(["umount", folder], check=True)
        found += ended.complaints((0, 2))
    return found


def closed_stdout(bench: Bench, words: str) -> list[str]:
    """Standard output is closed, full, or nobody reads it."""
    found = bench.run(words, close_stdout=True).complaints((0, 2))
    plain = words.partition(" --json")[0] if words.startswith(("info", "doctor")) else words
    full = os.open("/dev/full", os.O_WRONLY)
    ended = bench.run(plain, stdout=full)
    os.close(full)
    # What was written before the last line stays.
    found += [text for text in ended.complaints((0, 2)) if not text.startswith("left out/")]
    read, write = os.pipe()
    os.close(read)
    ended = bench.run(plain, stdout=write)
    os.close(write)
    return found + ended.complaints((0,))


def stopped_by(number: signal.Signals) -> Callable[[Bench, str], list[str]]:
    """Return the fault of a signal at random times."""

    def fault(bench: Bench, words: str) -> list[str]:
        duration = bench.run(words).seconds
        times, found = random.Random(0), []
        for _ in range(SIGNALS_EACH):
            after = times.uniform(0.1, 0.95 * duration)
            ended = bench.run(words, stop=(number, after))
            if ended.code == 0:
                continue
            complaints = ended.complaints((128 + number,), MAX_STOP_S)
            found += [f"after {after:.1f} s: {text}" for text in complaints]
        return found

    return fault


def little_memory(bench: Bench, words: str) -> list[str]:
    """The address space is limited."""
    found = []
    for megabytes in MEMORY_MB:
        limits = megabytes << 20, megabytes << 20
        ended = bench.run(words, prepare=partial(resource.setrlimit, resource.RLIMIT_AS, limits))
        found += [f"{megabytes} MB: {text}" for text in ended.complaints((0, 2))]
    return found


def read_only(bench: Bench, words: str) -> list[str]:
    """The folder of the outputs may not be written to."""
    bench.out.mkdir(exist_ok=True)
    bench.out.chmod(0o555)
    # The superuser, too, is bound by permissions then.
    bounds = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    return bench.run(words, prefix=bounds).complaints((2,))


FAULTS: dict[str, Callable[[Bench, str], list[str]]] = {
    "disk full": full_disk,
    "stdout closed": closed_stdout,
    "SIGINT": stopped_by(signal.SIGINT),
    "SIGTERM": stopped_by(signal.SIGTERM),
    "memory": little_memory,
    "read-only": read_only,
}
NEED_ROOT = ("disk full", "read-only")


def rows(commands: list[str], faults: list[str]) -> Iterator[str]:
    """Yield the table line by line, and report complaints on standard error."""
    yield f"| command | {' | '.join(faults)} |"
    yield "|---" * (len(faults) + 1) + "|"
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name in commands:
            cells = []
            for fault in faults:
                if fault in NEED_ROOT and os.geteuid() != 0:
                    cells.append("not run")
                    continue
                complaints = FAULTS[fault](bench, COMMANDS[name])
                cells.append("ok" if not complaints else f"{len(complaints)} wrong")
                for text in complaints:
                    sys.stderr.write(f"{name}, {fault}: {text}\n")
            yield f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(COMMANDS), choices=list(COMMANDS))
    parser.add_argument("--faults", nargs="+", default=list(FAULTS), choices=list(FAULTS))
    options = parser.parse_args()
    for line in rows(options.only, options.faults):
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
