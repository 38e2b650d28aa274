"""Floaters that are put in front of a sphere and a thin rod, and what is left of the scene."""

import json
import re
from pathlib import Path

import pytest
import torch
from mesh_scenes import CENTER, RADIUS, around, sphere

from recon.capture import Frame, FrameCamera, write_transforms
from recon.cleaning.floaters import find_floaters, neighbour_distance
from recon.cli.main import main
from recon.formats import load_gaussians, save_gaussians
from render import Gaussians

pytest.importorskip("scipy")


def specks(count: int, seed: int = 0) -> Gaussians:
    """Return small opaque Gaussians between the cameras and the sphere."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.cat([camera.centers for camera in around()])
    starts = centers[torch.randint(len(centers), (count,), generator=generator)]
    middle = torch.tensor(CENTER)
    ends = middle + 0.6 * RADIUS * (2 * torch.rand(count, 3, generator=generator) - 1)
    along = 0.2 + 0.4 * torch.rand(count, 1, generator=generator)
    return Gaussians(
        means=starts + along * (ends - starts),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(count, 4),
        scales=torch.full((count, 3), 0.008),
        opacities=torch.full((count,), 0.9),
        sh=torch.rand(count, 1, 3, generator=generator),
    )


def rod(count: int = 120) -> Gaussians:
    """Return a thin rod in front of the sphere."""
    along = torch.linspace(-0.4, 0.4, count)
    means = torch.tensor(CENTER) + torch.stack(
        [along, torch.zeros(count), torch.full((count,), -RADIUS - 0.15)], 1
    )
    return Gaussians(
        means, torch.tensor([1.0, 0, 0, 0]).expand(count, 4), torch.full((count, 3), 0.008),
        torch.full((count,), 0.9), torch.zeros(count, 1, 3),
    )  # fmt: skip


@pytest.mark.parametrize("fraction", [0.01, 0.05])
def test_floaters_are_found(fraction: float) -> None:
    scene = sphere(8000)
    added = specks(round(fraction * len(scene)))
    found = find_floaters(Gaussians.cat([scene, added]), around())
    right = float(found[len(scene) :].sum())
    assert right > 0.95 * len(added) and right > 0.95 * float(found.sum())


def test_a_thin_rod_stays() -> None:
    scene = Gaussians.cat([sphere(8000), rod()])
    found = find_floaters(scene, around())
    assert int(found.sum()) < 3


def test_a_huge_faint_gaussian_is_haze() -> None:
    haze = specks(1)
    haze = Gaussians(
        haze.means, haze.quats, torch.full((1, 3), 0.15), torch.full((1,), 0.1), haze.sh
    )
    found = find_floaters(Gaussians.cat([sphere(8000), haze]), around())
    assert found[-1] and int(found.sum()) == 1


def test_distance_of_neighbours() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    assert neighbour_distance(points, 2).tolist() == [3, 2, 3, 6]
    # Fewer points than neighbours: all are apart.
    assert neighbour_distance(points[:2], 2).isinf().all()


def test_the_command_removes_them(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    scene, out, cameras = (tmp_path / name for name in ("a.ply", "b.ply", "transforms.json"))
    save_gaussians(scene, Gaussians.cat([sphere(8000), specks(80)]))
    known = [FrameCamera(c.viewmats[0], c.Ks[0], c.width, c.height) for c in around()]
    write_transforms(
        cameras, [Frame(f"{i}.png", tmp_path / f"{i}.png", c) for i, c in enumerate(known)]
    )
    main(["clean", str(scene), "-o", str(out), "--cameras", str(cameras), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["gaussians"] == len(load_gaussians(out)) == 8080 - told["removed"]
    assert 76 <= told["removed"] <= 84
    between = told["cameras"] - told["known_cameras"]
    assert told["known_cameras"] == len(known) and between > 0
    main(["clean", str(scene), "-o", str(out), "--cameras", str(cameras), "--force"])
    text = f"seen from {told['cameras']} cameras ({len(known)} of photos, {between} between them), "
    assert text in capsys.readouterr().out
    main(["clean", str(scene), "-o", str(out)])
    assert re.search(r"seen from \d+ guessed cameras, ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "b.obj"], "b.obj"),
        (["-o", "a.ply"], "is the input a.ply itself"),
        (["-o", "b.ply", "--cameras", "missing"], "missing"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture,
    words: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    save_gaussians(Path("a.ply"), sphere(300))
    with pytest.raises(SystemExit) as stopped:
        main(["clean", "a.ply", *words])
    text = capsys.readouterr().err.strip()
    assert stopped.value.code == 2 and message in text and len(text.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"]
