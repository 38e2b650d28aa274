"""Meshes rendered to shards: what is stored, calls that are killed, models that cannot be read."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import trimesh
from conftest import ROOT

from recon.cli.main import main
from recon.errors import InputError
from recon.files import temporary_folder
from recon.workers import ENDED, Compute, Halt, Result, computing, local_results
from training.data.meshes.source import render_mesh
from training.data.shards import ShardScenes, ShardsConfig
from training.data.shards import render_meshes as module
from training.data.shards.models import list_models
from training.data.shards.render_meshes import RenderOptions, render_meshes
from training.data.shards.tar import open_shard
from training.data.types import SampleRequest, hashed_seed, problem_of

OPTIONS = RenderOptions(views=5, size=24, scenes=3)
WORDS = ["--views", "5", "--size", "24", "--scenes", "3"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven boxes and two files that are no meshes."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "sub").mkdir()
    for index in range(7):
        box = trimesh.creation.box((1.0, 0.5 + 0.1 * index, 0.7))
        name = f"sub/{index}.obj" if index % 2 else f"{index}.glb"
        trimesh.Scene(box).export(folder / name)
    (folder / "sub" / "SOURCE.txt").write_text("licence: CC0\nauthor: me\n")
    (folder / "bad.glb").write_bytes(b"no mesh")
    (folder / "sub" / "worse.obj").write_text("no mesh\n")
    return folder


@pytest.fixture(scope="module")
def shards(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("rendered") / "out"
    text = render_meshes(models, out, OPTIONS, processes=2)
    assert ": 7 scenes in 3 shards, " in text and "2 skipped" in text
    return out


@pytest.fixture()
def without_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Render in this process, which is quicker."""

    @contextmanager
    def here(*settings: object) -> Iterator[Compute]:
        yield lambda function, jobs: ((index, function(*job)) for index, job in jobs)

    monkeypatch.setattr(module, "computing", here)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".jsonl"}


def skipped(folder: Path) -> dict[str, str]:
    lines = (folder / "skipped.jsonl").read_text().splitlines()
    return {row["key"]: row["reason"] for row in map(json.loads, lines)}


def test_scenes_are_the_renders(models: Path, shards: Path) -> None:
    assert skipped(shards) == {
        "bad_glb": "unreadable mesh",
        "sub_worse_obj": skipped(shards)["sub_worse_obj"],
    }
    source = ShardScenes(ShardsConfig(folder=str(shards), held_out=1))
    assert source.total == 7
    request = SampleRequest(4, 2, 2, 24, 24, index=2)
    found = source.sample(request)
    assert problem_of(found, request) is None
    assert not bool(found.depth.isnan().any())
    # The same renders without a shard between, up to 8 bits of colour and 16 of depth.
    path, row = source._location(request, request.generator())
    key = list(open_shard(path).index)[row]
    model = next(m for m in list_models(models) if m.key == key)
    direct = render_mesh(model.path, 5, 24, 24, seed=hashed_seed(key))
    for view, matrix in enumerate(found.cameras.viewmats):
        same = int((direct["viewmats"] - matrix).abs().flatten(1).amax(1).argmin())
        solid = direct["depth"][same].isfinite()
        assert torch.allclose(found.depth[view][solid], direct["depth"][same][solid], rtol=1e-3)
        assert torch.allclose(found.cameras.Ks[view], direct["Ks"][same], rtol=1e-4)
        full = direct["rgba"][same][3] == 255
        colors = direct["rgba"][same][:3].float() / 255
        assert float((found.images[view] - colors).abs()[:, full].max()) < 1.5 / 255
        # One background colour, where no surface is.
        empty = found.images[view][:, direct["rgba"][same][3] == 0]
        assert float((empty - empty[:, :1]).abs().max()) < 1e-6


def test_smaller_images_than_stored(shards: Path) -> None:
    request = SampleRequest(1, 2, 1, 16, 12, index=0)
    source = ShardScenes(ShardsConfig(folder=str(shards)))
    assert problem_of(source.sample(request), request) is None


def test_cameras_of_gs_lrm(models: Path) -> None:
    found = render_mesh(models / "0.glb", 40, 16, 16, "gs-lrm")
    centers = -(found["viewmats"][:, :3, :3].mT @ found["viewmats"][:, :3, 3:])[..., 0]
    distance = centers.norm(dim=1)
    assert 1.5 <= float(distance.min()) < 1.7 and 2.6 < float(distance.max()) <= 2.8
    fov_deg = math.degrees(2 * math.atan(8 / float(found["Ks"][0, 0, 0])))
    assert fov_deg == pytest.approx(50, abs=1e-3)
    # The longest side of the box spans 2: its corner is at most sqrt(3) away, and no nearer than 1.
    solid = found["depth"].isfinite()
    nearest = torch.where(solid, found["depth"], torch.inf).flatten(1).amin(1)
    assert bool((nearest > distance - 3**0.5).all())
    colors = found["rgba"][:, :3].movedim(1, -1)[found["rgba"][:, 3] == 255]
    assert len(torch.unique(colors, dim=0)) == 1  # under uniform light


def test_attribution_is_kept(models: Path, shards: Path, tmp_path: Path) -> None:
    facts = {}
    for path in sorted(shards.glob("*.tar")):
        shard = open_shard(path)
        facts |= {key: shard.facts(key)["attribution"] for key in shard.index}
    assert facts["sub_1_obj"] == {"licence": "CC0", "author": "me"}
    text = (models / "0.glb").read_bytes()
    start, length = 20, int.from_bytes(text[12:16], "little")
    document = json.loads(text[start : start + length])
    extras = {"author": "B", "license": "CC-BY", "n": 1}
    document["asset"] |= {"copyright": "2026 A", "extras": extras}
    inner = json.dumps(document).encode()
    head = text[:12] + len(inner).to_bytes(4, "little") + b"JSON"
    (tmp_path / "m.glb").write_bytes(head + inner + text[start + length :])
    row = {"path": "m.glb", "license": "CC0", "uri": "https://example.org"}
    (tmp_path / "list.jsonl").write_text(json.dumps(row) + "\n")
    (model,) = list_models(tmp_path / "list.jsonl")
    assert model.path == tmp_path / "m.glb" and model.attribution() == {
        "copyright": "2026 A", "author": "B", "license": "CC0", "uri": "https://example.org",
    }  # fmt: skip
    for name in ("a.b.obj", "a_b.obj"):
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("# models\n\na.b.obj\na_b.obj\n")
    assert [m.key for m in list_models(tmp_path / "list.txt")] == ["a_b_obj", "a_b_obj_1"]
    for text_, message in (
        ('{"path": 3}', "line 1: expected"),
        ("", "no .glb, .gltf, .obj files"),
        ('{"path": "m.glb"}\n{"path": "n.glb"}', "line 2: no such file .*n.glb; correct or remove"),
        ('{"path": "m.ply"}', "line 1: expected a .glb, .gltf, .obj file a line, found 'm.ply'"),
        ('{"path": "m.glb"}\n\n{"path": "./m.glb"}', "lists ./m.glb in lines 1 and 3"),
    ):
        (tmp_path / "list.jsonl").write_text(text_)
        with pytest.raises(InputError, match=message):
            list_models(tmp_path / "list.jsonl")


def test_a_killed_call_loses_and_repeats_nothing(
    models: Path, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "recon", "data", "render-meshes", str(models), "-o", str(out)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([*command, *WORDS], env=environment, start_new_session=True)
    try:
        while len(list(out.glob("parts/*.tar"))) < 2 and not list(out.glob("*.tar")):
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = len(list(out.glob("parts/*.tar"))) + 3 * len(list(out.glob("*.tar")))
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    # What a killed process may leave: half a line, half a file.
    with (out / "skipped.jsonl").open("a") as file:
        file.write('{"key": "0_g')
    (out / "parts" / ".recon-killed").mkdir(parents=True, exist_ok=True)
    capsys.readouterr()
    main(["data", "render-meshes", str(models), "-o", str(out), *WORDS])
    # The first line says that a shard is written if only that was missing of it.
    (told,) = [line for line in capsys.readouterr().err.splitlines() if "models are done" in line]
    assert int(told.split(" ")[1]) >= done >= 1
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in before.items())
    assert contents(out) == contents(shards) and skipped(out) == skipped(shards)
    main(["data", "render-meshes", str(models), "-o", str(out), *WORDS])
    assert capsys.readouterr().err.startswith("recon: 9 of 9 models are done")
    with pytest.raises(InputError, match="was begun with --views 5, now it is 6"):
        render_meshes(models, out, RenderOptions(views=6, size=24, scenes=3))


def answer(value: str) -> Result | Halt:
    if value == "halt":
        return Halt("the disk is full")
    if value == "end":
        os.kill(os.getpid(), signal.SIGKILL)
    if value.startswith("sleep"):
        with temporary_folder(Path(value.removeprefix("sleep "))):
            time.sleep(600)
    if value == "raise":
        raise ValueError("wrong")
    return value.encode()


def test_processes_that_end_or_hang_cost_their_job_alone(tmp_path: Path) -> None:
    values = ["a", "end", "b", "raise", f"sleep {tmp_path}", "c"]
    jobs = [(index, (value,)) for index, value in enumerate(values)]
    found = dict(local_results(answer, jobs, 2, 8.0))
    assert found == {
        0: b"a", 1: ENDED, 2: b"b", 3: "ValueError: wrong", 4: "not done after 8 s", 5: b"c",
    }  # fmt: skip
    assert not list(tmp_path.iterdir())  # a process that is ended removes its temporary files
    assert list(local_results(answer, [], 2, 5.0)) == []


def test_what_stops_all_jobs_stops_the_call() -> None:
    found = []
    with pytest.raises(InputError, match="the disk is full"):
        for result in local_results(
            answer, [(i, (v,)) for i, v in enumerate(["a", "halt", "b"])], 1, 20.0
        ):
            found.append(result)
    assert found == [(0, b"a")]


def start_fails() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class EndsItsProcess:
    """A function that cannot be sent to a process: loading it there ends that."""

    def __call__(self) -> Result:
        return b""

    def __reduce__(self) -> tuple:
        return (start_fails, ())


def test_a_process_that_does_not_start_is_no_fault_of_a_job() -> None:
    with pytest.raises(InputError, match="ended while it was started"):
        list(local_results(EndsItsProcess(), [(0, ()), (1, ())], 1, 20.0))


def test_models_that_all_fail_are_an_error(
    models: Path, tmp_path: Path, without_processes: None
) -> None:
    source, out = tmp_path / "list.txt", tmp_path / "out"
    source.write_text("bad.obj\nempty.glb\n")
    (tmp_path / "bad.obj").write_text("no mesh\n")
    (tmp_path / "empty.glb").touch()
    for _ in range(2):  # also when nothing is left to do
        with pytest.raises(InputError, match="no model of .* could be rendered; .*skipped.jsonl"):
            render_meshes(source, out, OPTIONS)
    assert skipped(out).keys() == {"bad_obj", "empty_glb"} and not any(out.glob("*.tar"))
    (tmp_path / "empty.glb").write_bytes((models / "0.glb").read_bytes())
    (out / "skipped.jsonl").unlink()
    assert ": 1 scene in 1 shard, " in render_meshes(source, out, OPTIONS)


def test_repaired_models_are_rendered(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], without_processes: None
) -> None:
    """The shard is made anew, with the scenes it had, as if all had been rendered at once."""
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("0.glb", "2.glb", "4.glb"):
        (source / name).write_bytes((models / name).read_bytes())
    (source / "2.glb").write_bytes(b"no mesh")
    assert ": 2 scenes in 1 shard, " in render_meshes(source, out, OPTIONS)
    (source / "2.glb").write_bytes((models / "2.glb").read_bytes())
    assert ", 1 skipped" in render_meshes(source, out, OPTIONS)
    (out / "skipped.jsonl").unlink()
    capsys.readouterr()
    assert ": 3 scenes in 1 shard, " in render_meshes(source, out, OPTIONS)
    assert "2 of 3 models are done" in capsys.readouterr().err
    render_meshes(source, tmp_path / "whole", OPTIONS)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_single_model_is_rendered(models: Path) -> None:
    (model,) = list_models(models / "sub" / "1.obj")
    assert model.key == "1_obj" and model.path == models / "sub" / "1.obj"
    assert model.attribution() == {"licence": "CC0", "author": "me"}


@pytest.mark.slow
def test_a_ray_cluster_renders_the_same(models: Path, shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "out"
    render_meshes(models, out, OPTIONS, processes=2, ray="local")
    assert contents(out) == contents(shards) and skipped(out) == skipped(shards)


def test_a_cluster_that_does_not_answer_is_one_error(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(InputError, match=f"ray={address}: Connection refused"):
            render_meshes(models, tmp_path / "out", OPTIONS, ray=address)
    assert not (tmp_path / "out").exists()


def test_a_cluster_that_does_not_start_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray")

    def start(*arguments: object, **options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", start)
    with (
        pytest.raises(InputError, match="ray=local: The current node timed out during startup"),
        computing(1, 5.0, "local"),
    ):
        pass


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "no folder, list or mesh nowhere"),
        (["IN"], "no .glb, .gltf, .obj files in"),
        (["IN", "--views", "0"], "--views must be at least 1"),
        (["IN", "--timeout", "0"], "--timeout must be above 0"),
        (["IN", "--cameras", "top"], "expected one of random, gs-lrm"),
    ],
)
def test_commands_explain_mistakes(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(tmp_path) if word == "IN" else word for word in words]
    with pytest.raises(SystemExit) as ended:
        main(["data", "render-meshes", *given, "-o", str(tmp_path / "out")])
    assert ended.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
