"""Signals, full disks, closed output and little memory: one line, and nothing left.

`tests/faults.py` tries all commands at random times; these are its fast, deterministic cases.
"""

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers import random_gaussians

from recon.cli import main as cli
from recon.cores import allowed_cores
from recon.errors import InputError, MissingDependency
from recon.files import has_no_room
from recon.formats import save_gaussians
from recon.interrupts import hold_signal, stoppable
from recon.memory import check_addresses, out_of_memory_text
from recon.resumable import add_row, read_rows

ROOT = Path(__file__).resolve().parents[2]
# A call that keeps the main thread from handling signals.
STUCK = """
import hashlib, sys
from recon.files import temporary_folder
from recon.interrupts import stoppable
with stoppable(is_process=True), temporary_folder() as folder:
    print(folder, flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.fixture()
def scene(tmp_path: Path) -> Path:
    path = tmp_path / "s.ply"
    save_gaussians(path, random_gaussians(200, torch.Generator()).to(torch.float32))
    return path


def started(
    arguments: list[str], begin: Callable[[], object] | None = None, stdout: int = subprocess.PIPE
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *arguments], stdout=stdout, stderr=subprocess.PIPE, text=True,
        preexec_fn=begin,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_stuck_call_is_ended_and_undone(number: int, word: str) -> None:
    process = started(["-c", STUCK])
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert folder.is_dir()
    process.send_signal(number)
    began = time.monotonic()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number and errors == f"recon: {word}\n"
    assert time.monotonic() - began < 3 and not folder.exists()


# C++ calls Python, which imports a module: an exception there would abort the process.
IMPORTING = """
import os, signal, sys
from pathlib import Path
from recon.files import temporary_folder
from recon.interrupts import stoppable
folder = Path(sys.argv[1])
(folder / "slow.py").write_text("import os, signal\\nos.kill(os.getpid(), signal.SIGTERM)")
sys.path.insert(0, str(folder))
with stoppable(is_process=True), temporary_folder(folder):
    try:
        import slow
    except BaseException:
        os.abort()
"""
# The work is done, and a signal comes while Python ends.
ENDING = """
import atexit, os, signal
from recon.interrupts import stoppable
atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))
with stoppable(is_process=True):
    print("done")
"""


def test_a_signal_during_an_import_ends_at_once(tmp_path: Path) -> None:
    process = started(["-c", IMPORTING, str(tmp_path)])
    assert process.communicate(timeout=30)[1] == "recon: terminated\n"
    assert process.returncode == 143
    assert [path.name for path in tmp_path.iterdir()] == ["slow.py"]


def test_a_signal_after_the_work_changes_nothing() -> None:
    process = started(["-c", ENDING])
    assert process.communicate(timeout=30) == ("done\n", "") and process.returncode == 0


def test_a_held_interrupt_is_noted_once() -> None:
    with (
        pytest.raises(SystemExit) as end,
        stoppable(is_process=False),
        hold_signal(signal.SIGINT) as was_asked,
    ):
        assert not was_asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert was_asked()
        os.kill(os.getpid(), signal.SIGINT)
    assert end.value.code == 130


def test_ctrl_c_keeps_the_scene_if_asked(
    sample: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    from recon.optimisation.parameters import Parameters

    step = Parameters.step

    def interrupted(self: Parameters, *arguments: object) -> float:
        if self.num_steps == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Parameters, "step", interrupted)
    out = tmp_path / "s.ply"
    words = f"{sample} -o {out} --resolution 32 --max-views 2 --refine 90 --quiet"
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 130 and not list(tmp_path.iterdir())
    assert capsys.readouterr().err == "recon: interrupted\n"
    with pytest.raises(SystemExit) as end:
        cli.main([*words.replace(" --quiet", "").split(), "--keep-on-interrupt"])
    shown = capsys.readouterr()
    assert end.value.code == 130 and out.is_file()
    assert shown.out.endswith("; interrupted after 3 steps\n") and shown.out.count("\n") == 1


def test_a_full_disk_is_one_line(scene: Path, tmp_path: Path) -> None:
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (4096, 4096))
    before = sorted(tmp_path.iterdir())
    process = started(["-m", "recon", "convert", str(scene), "-o", f"{tmp_path}/o.glb"], limit)
    _, errors = process.communicate(timeout=60)
    last = errors.splitlines()[-1]
    assert process.returncode == 2 and last.startswith("recon: error: cannot write"), errors
    assert "File too large" in last and sorted(tmp_path.iterdir()) == before


def test_closed_output(scene: Path) -> None:
    info = ["-m", "recon", "info", str(scene)]
    closed = started(info, partial(os.close, 1))
    assert "standard output is closed" in closed.communicate(timeout=60)[1]
    assert closed.returncode == 2
    with Path("/dev/full").open("w") as full:
        process = started(info, stdout=full.fileno())
    assert "cannot write to standard output: No space" in process.communicate(timeout=60)[1]
    assert process.returncode == 2
    read, write = os.pipe()
    os.close(read)
    unread = started(info, stdout=write)
    os.close(write)
    assert unread.communicate(timeout=60)[1] == "" and unread.returncode == 0


def test_words_of_too_little_memory() -> None:
    for error in (
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ImportError("libtorch.so: failed to map segment from shared object"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        RuntimeError("could not create a primitive"),
    ):
        assert str(out_of_memory_text(error)).startswith("not enough memory")
        wrapped = ValueError("a decoder failed")
        wrapped.__cause__ = error
        assert out_of_memory_text(wrapped) is not None
    assert out_of_memory_text(ValueError("a bug")) is None


def test_libraries_that_crash_without_memory_are_not_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_addresses.cache_clear()
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = used + 300_000_000, resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda kind: limits)
    monkeypatch.setattr("recon.memory.allowed_cores", lambda: 8)
    with pytest.raises(MemoryError, match=r"Embree needs 790 MB, and the limit .* leaves \d+ MB"):
        check_addresses("Embree")
    # One core has one thread.
    monkeypatch.setattr("recon.memory.allowed_cores", lambda: 1)
    check_addresses("Embree")
    # What the library has, it does not need again.
    monkeypatch.setattr("recon.memory.allowed_cores", lambda: 8)
    check_addresses("Embree")
    check_addresses.cache_clear()


def test_only_the_cores_that_are_allowed_count() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert allowed_cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert allowed_cores() == len(before)


def test_a_library_that_memory_keeps_from_loading_is_not_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Fails:
        def run(self) -> None:
            try:
                raise ImportError("libtorch.so: failed to map segment from shared object")
            except ImportError as error:
                raise MissingDependency(f"{error}; pip install it") from None

    monkeypatch.setattr(cli, "_parsed", lambda words: Fails())
    with pytest.raises(SystemExit) as end:
        cli.main(["train"])
    shown = capsys.readouterr().err
    assert end.value.code == 2 and shown.startswith("recon: error: not enough memory")


# A call that computes in a process of its own, which shows a temporary folder and does not end.
WITH_A_PROCESS = """
import sys, time
from pathlib import Path
from recon.files import temporary_folder
from recon.workers import local_results
def slow(parent):
    with temporary_folder(Path(parent)):
        time.sleep(600)
if __name__ == "__main__":
    list(local_results(slow, [(0, (sys.argv[1],))], 1, 600.0))
"""


def test_processes_end_with_the_call_that_was_killed(tmp_path: Path) -> None:
    """Otherwise they would compute beside the call that goes on with their work."""
    script, folder = tmp_path / "script.py", tmp_path / "shown"
    script.write_text(WITH_A_PROCESS)
    folder.mkdir()
    process = started([str(script), str(folder)])
    deadline = time.monotonic() + 60
    while not list(folder.iterdir()):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    while list(folder.iterdir()):  # its process removes it, and ends
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # The pipes close when the last process that has them ends.
    assert process.communicate(timeout=30) == ("", "")


def test_a_row_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    code = (
        "import sys\nfrom pathlib import Path\nfrom recon.errors import InputError\n"
        "from recon.resumable import add_row\n"
        "try:\n    [add_row(Path(sys.argv[1]), {'key': 50 * 'x'}) for _ in range(3)]\n"
        "except InputError as error:\n    print(error)\n"
    )
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100, 100))
    told, errors = started(["-c", code, str(path)], limit).communicate(timeout=60)
    assert told.startswith(f"cannot write {path}: ") and errors == ""
    assert [row["key"] for row in read_rows(path)] == [50 * "x"]


def test_a_last_row_without_an_end_is_kept_if_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": 1}\n{"key": 2}')  # as an editor saves it
    assert read_rows(path) == [{"key": 1}, {"key": 2}]
    add_row(path, {"key": 3})
    assert path.read_text() == '{"key": 1}\n{"key": 2}\n{"key": 3}\n'
    path.write_text('{"key": 1}\n{"key": ')  # of a killed process
    assert read_rows(path) == [{"key": 1}] and path.read_text() == '{"key": 1}\n'


@pytest.mark.parametrize("text", ["notes", '{"key": 1}\n[2]', "[" * 100_000, "3\n{"])
def test_files_of_other_contents_are_left_as_they_are(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match="expected a JSON object a line; remove it"):
        read_rows(path)
    assert path.read_text() == text


def test_rows_that_cannot_be_read_are_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": ')

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("recon.resumable.os.truncate", refuse)
    with pytest.raises(InputError, match=r"cannot read and write .*: Permission denied; change"):
        read_rows(path)


def test_errors_of_a_full_disk_are_told_from_others() -> None:
    wrapped = InputError("cannot write it")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert has_no_room(wrapped) and not has_no_room(OSError(errno.ENOENT, "none"))
