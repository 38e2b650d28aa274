"""`recon batch`: names, a line a capture, failures, and going on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from recon.batch import RESULTS, Item, Results, read_list
from recon.cli.main import main
from recon.errors import InputError
from recon.formats import load_gaussians

QUICK = [
    "--resolution", "32", "--max-views", "2", "--refine", "2", "--model", "plane-sweep",
    "--save-cameras",
]  # fmt: skip


@pytest.fixture()
def captures(sample: Path, tmp_path: Path) -> Path:
    """A list of three captures, of which the second is broken."""
    for name in ("one", "two", "three"):
        shutil.copytree(sample, tmp_path / "in" / name)
    shutil.rmtree(tmp_path / "in" / "two" / "images")
    path = tmp_path / "in" / "list.txt"
    path.write_text("# captures\none\n\ntwo\nthree\n")
    return path


def rows(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / RESULTS).read_text().splitlines()]


def test_names_tell_captures_apart(tmp_path: Path) -> None:
    (tmp_path / "video.mp4").touch()
    path = tmp_path / "list.txt"
    path.write_text("a/images\nb/images\nfox\nvideo.mp4\nx/b/images\n")
    names = [item.name for item in read_list(path)]
    assert names == ["a-images", f"{tmp_path.name}-b-images", "fox", "video", "x-b-images"]
    path.write_text("\ufefffox\r\n" + 300 * "x")  # of a Windows editor; a name that is too long
    assert [item.name for item in read_list(path)] == ["fox", 300 * "x"]
    path = tmp_path / "list.jsonl"
    path.write_text('{"path": "fox", "name": "f", "by": "A"}\n{"path": "/fox"}\n')
    assert read_list(path) == [Item(tmp_path / "fox", "f"), Item(Path("/fox"), "fox")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# none\n", "lists no captures"),
        ('{"path": 3}', "line 1: expected"),
        ('\n{"path": ""}', "line 2: expected"),
        ('{"path": "a\\u0000b"}', "line 1: expected"),
        ('{"path": "\\ud83d"}', "line 1: expected"),
        ('{"path": "a", "name": "../b"}', "line 1: expected the name of a scene, .* found '../b'"),
        ('{"path": "a", "name": ".."}', "line 1: expected the name of a scene, .* found .."),
        ('{"path": "a", "nam": "b"}', "line 1: unknown key nam; did you mean name"),
        ("nothing", "line 1: expected {.*}, found 'nothing'"),
        ("[" * 100_000, "line 1: expected"),
        ('{"path": "a"}\n{"path": "./a"}', "lists ./a in lines 1 and 2; list it once"),
        ('{"path": "a", "name": "c"}\n{"path": "b", "name": "c"}', "calls 2 scenes c; give"),
    ],
)
def test_wrong_lists_are_explained(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_list(path)
    with pytest.raises(InputError, match="cannot read the list .*: Is a directory; expected a te"):
        read_list(tmp_path)


def test_the_last_line_of_a_capture_counts(tmp_path: Path) -> None:
    item = Item(tmp_path / "a", "a")
    results = Results(tmp_path, retry=False)
    assert not results.is_done(item, ".ply", False)
    results.add(item, {"error": "too dark"})
    assert results.is_done(item, ".ply", False) and results.error(item) == "too dark"
    again = Results(tmp_path, retry=True)
    assert not again.is_done(item, ".ply", False)
    again.add(item, {"output": str(tmp_path / "a.ply")})
    assert not again.is_done(item, ".ply", False)  # the scene was deleted
    (tmp_path / "a.ply").touch()
    assert Results(tmp_path, retry=False).is_done(item, ".ply", False)
    assert again.error(item) is None
    again.check_names([item, Item(tmp_path / "b", "b")], ".ply", False)
    with pytest.raises(
        InputError, match=r"has a scene a of .*/a already; give .*/x/a another name"
    ):
        again.check_names([Item(tmp_path / "x" / "a", "a")], ".ply", False)


def test_no_attempt_replaces_the_scene_of_another_capture(tmp_path: Path) -> None:
    a, b = Item(tmp_path / "a", "x"), Item(tmp_path / "b", "y")
    first = Results(tmp_path, retry=False)
    first.add(a, {"output": str(tmp_path / "x.ply")})
    first.add(b, {"error": "too dark"})
    (tmp_path / "x.ply").touch()
    renamed = [Item(a.capture, "y"), Item(b.capture, "x")]
    Results(tmp_path, retry=False).check_names(renamed, ".ply", False)  # nothing is tried
    with pytest.raises(InputError, match=r"has a scene x of .*/a already; give .*/b another name"):
        Results(tmp_path, retry=True).check_names(renamed, ".ply", False)
    # The scene is still that of its capture if another attempt, for its cameras, fails.
    first.add(a, {"error": "no room"})
    for results in (first, Results(tmp_path, retry=True)):
        results.retry = True
        with pytest.raises(InputError, match="has a scene x of"):
            results.check_names(renamed, ".ply", True)
    (tmp_path / "x.ply").unlink()
    first.check_names(renamed, ".ply", True)


def test_files_are_looked_for_in_the_folder_as_it_is_now(tmp_path: Path) -> None:
    item, folder = Item(tmp_path / "a", "a"), tmp_path / "out"
    folder.mkdir()
    Results(folder, retry=False).add(item, {"output": str(folder / "a.compressed.ply")})
    (folder / "a.compressed.ply").touch()
    moved = Results(folder.rename(tmp_path / "moved"), retry=False)
    assert moved.is_done(item, ".compressed.ply", False)
    assert not moved.is_done(item, ".compressed.ply", True)  # cameras are wanted, too
    (tmp_path / "moved" / "a.cameras.json").touch()
    assert moved.is_done(item, ".compressed.ply", True)


def test_a_killed_call_repeats_nothing(
    captures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["batch", str(captures), "-o", str(out), *QUICK]
    process = subprocess.Popen(
        [sys.executable, "-m", "recon", *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True,
    )  # fmt: skip
    try:
        while not (out / RESULTS).is_file() or not (out / RESULTS).read_text().endswith("\n"):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    before = (out / RESULTS).read_text()
    done = {path: path.stat().st_mtime_ns for path in out.glob("*.ply")}
    with (out / RESULTS).open("a") as file:
        file.write('{"capture": "half a li')
    main(words)
    shown = capsys.readouterr()
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in done.items()) and done
    assert shown.out == f"{out} holds 2 scenes, 1 failed (see {out / RESULTS})\n"
    # It is quick to fail: the killed call may have come to it.
    assert ("failed two: " in shown.err) != ("/two" in before)
    found = {Path(row["capture"]).name: row for row in rows(out)}
    assert list(found) == ["one", "two", "three"] and len(rows(out)) == 3
    for name in ("one", "three"):
        assert len(load_gaussians(out / f"{name}.ply")) == found[name]["gaussians"] > 0
    assert "two" in found["two"]["error"] and "Traceback" not in found["two"]["error"]
    main(words)
    assert capsys.readouterr().err.startswith("recon: captures done before: 3 of 3\n")
    assert {path.name for path in out.glob("*.cameras.json")} == {
        "one.cameras.json", "three.cameras.json",
    }  # fmt: skip
    with pytest.raises(SystemExit):
        main([*words, "--seed", "1"])
    assert "was begun with seed 0, now it is 1" in capsys.readouterr().err


@pytest.mark.slow
def test_a_ray_cluster_makes_the_same(captures: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for name, more in (("here", []), ("ray", ["--ray", "local", "--processes", "2"])):
        main(["batch", str(captures), "-o", str(tmp_path / name), *QUICK, *more])
    for name in ("one.ply", "three.ply"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "ray" / name).read_bytes()
    assert len(rows(tmp_path / "ray")) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "cannot read the list"),
        (["--extension", "obj"], "--extension: expected one of .ply"),
        (["--processes", "0"], "--processes must be at least 1"),
        (["--timeout", "0"], "--timeout must be above 0"),
        (["--model", "nerf"], "unknown model 'nerf'"),
        (["--refine", "much"], "--refine: expected steps"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["batch", str(tmp_path / "none.txt"), "-o", str(tmp_path / "out"), *words])
    error = capsys.readouterr().err
    assert end.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_called_as_the_model_is_none(
    captures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "plane-sweep").mkdir()
    monkeypatch.chdir(tmp_path)
    captures.write_text("one\n")
    main(["batch", str(captures), "-o", "out", *QUICK])
    assert [row.get("error") for row in rows(tmp_path / "out")] == [None]
