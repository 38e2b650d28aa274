"""Smaller scenes: sizes and losses that were asked for are kept, whoever measures."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from recon import ReconError
from recon.capture import load_capture, load_views, select_spread
from recon.cli import main as cli
from recon.compress import Looks, Packer, imagined_cameras, sphere
from recon.compress.quantise import find_steps, quantise
from recon.compress.shrink import shrink
from recon.formats import load_gaussians, save_gaussians
from recon.simplify.importance import contribution, importance_order
from render import rasterize

FAST = ["--max-views", "3", "--resolution", "96"]


@pytest.fixture(scope="module")
def scene(sample: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "a.ply"
    cli.main([str(sample), "-o", str(path), "--refine", "10", "--prune", "0", "--quiet", *FAST])
    return path


@pytest.fixture(scope="module")
def looks(scene: Path, sample: Path) -> Looks:
    capture = load_capture(sample)
    views = load_views([capture.frames[i] for i in select_spread(capture, 3)], 96)
    return Looks.of(load_gaussians(scene), views.cameras, photos=views)


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".sog", ".spz"])
def test_loss_is_kept(scene: Path, sample: Path, extension: str, tmp_path: Path, capsys) -> None:
    out = tmp_path / f"b{extension}"
    options = ["--max-loss", "0.5", "--cameras", str(sample), "--json", *FAST]
    cli.main(["compress", str(scene), "-o", str(out), *options])
    summary = json.loads(capsys.readouterr().out)
    assert summary["loss_db"] <= 0.5
    assert summary["gaussians"] < 0.8 * summary["gaussians_before"]
    assert out.stat().st_size < 0.2 * scene.stat().st_size
    assert len(load_gaussians(out)) == summary["gaussians"]


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".sog", ".spz"])
def test_rounding_makes_up_for_a_loss_nearby(scene: Path, looks: Looks, extension: str) -> None:
    whole = load_gaussians(scene)
    fewer = shrink(whole, round(0.15 * len(whole)), looks)
    rounding = looks.loss_db(fewer) / 4
    with Packer(whole, looks, extension) as packer:
        steps = packer._steps(fewer, rounding)
        plain = packer.pack(fewer, steps)
        for part, close in ((0.5, 0.8), (0.9, 0.95)):
            limit = plain.loss_db / part
            more = packer._rounded_more(limit, plain, fewer, steps, rounding)
            assert part * limit <= more.loss_db <= limit
            # Two grids, one on the other, may do as they please: then nothing is changed.
            if extension == ".sog":
                assert more.size < plain.size and more.loss_db >= close * limit
            else:
                assert more is plain or more.size < plain.size


@pytest.mark.slow
def test_measured_loss_is_what_others_measure(scene: Path, looks: Looks) -> None:
    whole = load_gaussians(scene)
    with Packer(whole, looks, ".spz") as packer:
        packed = packer.within_loss(1.0, lambda done: None)
        found = load_gaussians(packed.path)
    # The reference rasterizer, not the kernel that was searched with.
    judged, changed = looks.judged.to("cpu", torch.float64), []
    for view in range(len(looks.judged)):
        one, two = (
            rasterize(g.to(torch.float64), judged[[view]]).rgb[0].clamp(0, 1)
            for g in (whole, found)
        )
        changed.append(float((one - two).square().mean()))
    expected = 10 * math.log10(1 + sum(changed) / len(changed) / looks.error)
    assert packed.loss_db == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".sog", ".spz", ".ply"])
def test_size_is_kept(scene: Path, sample: Path, extension: str, tmp_path: Path, capsys) -> None:
    out, wanted = tmp_path / f"b{extension}", 0.05
    options = ["--target-size", str(wanted), "--cameras", str(sample), "--json", *FAST]
    cli.main(["compress", str(scene), "-o", str(out), *options])
    assert 0.9 * wanted <= out.stat().st_size / 1e6 <= wanted
    summary = json.loads(capsys.readouterr().out)
    assert summary["loss_db"] > 0


def test_nothing_is_lost_where_colours_are_too_bright(scene: Path, looks: Looks) -> None:
    whole = load_gaussians(scene)
    bright = replace(whole, sh=whole.sh + 1.0)
    seen = Looks.of(bright, looks.judged)
    assert float(seen.truth.max()) == 1.0
    assert seen.loss_db(bright) == 0
    fewer = shrink(bright, round(0.9 * len(bright)), seen)
    assert seen.loss_db(fewer) < 0.05


@pytest.mark.slow
def test_steps_are_found_for_a_scene_that_lost_something(scene: Path, looks: Looks) -> None:
    """As when a size is wished for: what is lost already is not what rounding may lose."""
    whole = load_gaussians(scene)
    fewer = shrink(whole, round(0.3 * len(whole)), looks)
    already = looks.loss_db(fewer)
    rounding = already / 4
    assert rounding > 0.005
    steps = find_steps(fewer, looks, rounding, lambda stored, dropped: stored)
    assert min(steps.color, steps.scale, steps.quat, steps.opacity) > 0.004
    more = looks.loss_db(quantise(fewer, steps)) - already
    assert 0.2 * rounding < more < 1.3 * rounding


def test_first_parts_are_the_best_ones(scene: Path, looks: Looks) -> None:
    whole = load_gaussians(scene)
    cameras = looks.lessons.cameras
    order = importance_order(whole, cameras)
    assert torch.equal(order.sort().values, torch.arange(len(whole)))
    ordered = whole[order]
    generator = torch.Generator().manual_seed(0)
    for part in (0.5, 0.25, 0.1):
        count = round(part * len(whole))
        chance = torch.randperm(len(whole), generator=generator)[:count]
        best = ordered[torch.arange(count)]
        assert looks.loss_db(best) < looks.loss_db(whole[chance]) - 1.5


@pytest.mark.slow
def test_keep(scene: Path, sample: Path, tmp_path: Path) -> None:
    options = ["--cameras", str(sample), "--quiet", *FAST]
    cli.main(["compress", str(scene), "-o", str(tmp_path / "b.ply"), "--keep", "0.3", *options])
    whole, kept = load_gaussians(scene), load_gaussians(tmp_path / "b.ply")
    assert len(kept) == round(0.3 * len(whole))
    cli.main(["compress", str(scene), "-o", str(tmp_path / "c.ply"), "--keep", "1", *options])
    first = load_gaussians(tmp_path / "c.ply")[torch.arange(len(kept))]
    assert torch.equal(first.means, kept.means)


@pytest.mark.slow
def test_a_larger_file_is_said(scene: Path, sample: Path, tmp_path: Path, capsys) -> None:
    options = ["--keep", "1", "--cameras", str(sample), *FAST]
    small, large = str(tmp_path / "b.sog"), str(tmp_path / "c.ply")
    cli.main(["compress", str(scene), "-o", small, *options])
    said = capsys.readouterr()
    assert "is larger than" not in said.err and "kB (" in said.out
    cli.main(["compress", small, "-o", large, *options])
    assert f"{large} is larger than {small}" in capsys.readouterr().err


def test_cameras_around_a_scene_look_at_it(scene: Path) -> None:
    whole = load_gaussians(scene)
    cameras = sphere(whole)
    pixels, depth = cameras.project(whole.means.median(0).values[None])
    assert (depth > 0).all()
    assert ((pixels - cameras.width / 2).abs() < 0.2 * cameras.width).all()
    assert torch.allclose(torch.linalg.det(cameras.viewmats), torch.ones(len(cameras)), atol=1e-4)
    around, far, near = imagined_cameras(whole)
    assert torch.equal(around.viewmats, cameras.viewmats)
    middle = whole.means.median(0).values[None]
    deep, nearer = (kind.project(middle)[1].mean() for kind in (far, near))
    assert 0 < nearer < deep


def test_the_worst_kind_of_cameras_counts(scene: Path, looks: Looks) -> None:
    whole = load_gaussians(scene)
    one, two = looks.judged[[0]], looks.judged[[1, 2]]
    alone = [Looks.of(whole, kind) for kind in (one, two)]
    both = Looks.of(whole, one, two)
    matters = contribution(whole, one) - contribution(whole, two)
    for worse, order in enumerate((matters.argsort(), matters.argsort(descending=True))):
        # What mostly this kind sees goes.
        fewer = whole[order[: len(whole) // 2]]
        changes = [each.change(fewer) for each in alone]
        assert changes[worse] > changes[1 - worse]
        assert both.change(fewer) == pytest.approx(changes[worse])


@pytest.mark.parametrize(
    "options, message",
    [
        (["--keep", "0"], "--keep must be above 0, at most 1, found 0"),
        (["--keep", "2"], "--keep must be above 0, at most 1, found 2"),
        (["--max-loss", "-1"], "--max-loss must be above 0, found -1"),
        (["--max-views", "0"], "--max-views must be at least 1, got 0"),
        (["--resolution", "1"], "--resolution must be at least 32 px, got 1"),
        (["--max-loss", "1", "--keep", "0.5"], "--max-loss and --keep exclude each other"),
    ],
)
def test_wrong_wishes(
    scene: Path, options: list[str], message: str, tmp_path: Path, capsys
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(scene), "-o", str(tmp_path / "b.sog"), *options])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_cameras_of_another_scene(scene: Path, sample: Path, tmp_path: Path, capsys) -> None:
    whole = load_gaussians(scene)
    away = replace(whole, means=whole.means + 1000.0)
    save_gaussians(tmp_path / "away.ply", away)
    options = ["-o", str(tmp_path / "b.sog"), "--cameras", str(sample), *FAST]
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(tmp_path / "away.ply"), *options])
    assert end.value.code == 2 and "looks nothing like the photos" in capsys.readouterr().err
    assert not (tmp_path / "b.sog").exists()


@pytest.mark.slow
def test_harmonics_that_say_little_make_room(scene: Path, looks: Looks) -> None:
    whole = load_gaussians(scene)
    noise = torch.randn(len(whole), 8, 3, generator=torch.Generator().manual_seed(0))
    for strength, size, degree in ((0.002, 0.15, 0), (0.2, 0.5, 2)):
        shiny = replace(whole, sh=torch.cat([whole.sh, strength * noise], 1))
        seen = Looks.of(shiny, looks.judged)
        with Packer(shiny, seen, ".spz") as packer:
            packed = packer.within_size(size, lambda done: None)
            assert packed.size <= 1e6 * size
            assert load_gaussians(packed.path).sh_degree == degree


def test_the_scene_itself_is_not_overwritten(scene: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy.ply"
    copy.write_bytes(scene.read_bytes())
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(copy), "-o", f"{tmp_path}/../{tmp_path.name}/copy.ply"])
    assert end.value.code == 2 and "is the scene itself" in capsys.readouterr().err
    assert copy.read_bytes() == scene.read_bytes()


def test_impossible_wishes(scene: Path, looks: Looks, tmp_path: Path) -> None:
    with (
        Packer(load_gaussians(scene), looks, ".splat") as packer,
        pytest.raises(ReconError, match="alone loses"),
    ):
        packer.within_loss(1e-6, lambda done: None)
    empty = load_gaussians(scene)[torch.zeros(0, dtype=torch.long)]
    save_gaussians(tmp_path / "none.ply", empty)
    with pytest.raises(SystemExit):
        cli.main(["compress", str(tmp_path / "none.ply"), "-o", str(tmp_path / "b.sog")])
