"""Compression: limits of size and loss are kept, also when measured independently."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers import write_empty_ply

from recon.capture import load_capture, load_views, select_spread
from recon.cli import main as cli
from recon.compression import (
    Encoder,
    RateDistortionObjective,
    compress,
    for_max_loss,
    for_target_size,
    reduction,
    sphere_cameras,
    synthetic_cameras,
)
from recon.compression.encoder import find_steps, quantise
from recon.compression.reduction import reduce_count
from recon.compression.search import adjust_steps, encode
from recon.errors import ConfigError
from recon.formats import FORMATS, SceneSource, load_gaussians, open_scene, save_gaussians
from recon.simplification.decimation import contribution, importance_order
from render import rasterize

FAST = ["--max-views", "3", "--resolution", "64"]


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fine-tune smaller scenes shortly: whatever its quality, a file must keep its limits."""
    monkeypatch.setattr(reduction, "STEPS_WHOLE", 16)
    monkeypatch.setattr(reduction, "MAX_STEPS", 48)


@pytest.fixture(scope="module")
def scene(sample: Path, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scene") / "a.ply"
    cli.main([str(sample), "-o", str(path), "--refine", "10", "--prune", "0", "--quiet", *FAST])
    return path


@pytest.fixture(scope="module")
def objective(scene: Path, sample: Path) -> RateDistortionObjective:
    capture = load_capture(sample)
    views = load_views([capture.frames[i] for i in select_spread(capture, 3)], 64)
    return RateDistortionObjective.of(load_gaussians(scene), views.cameras, photos=views)


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".sog", ".spz"])
def test_loss_stays_within_its_limit(
    scene: Path, sample: Path, extension: str, tmp_path: Path, capsys
) -> None:
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
def test_coarser_steps_use_up_the_permitted_loss(
    scene: Path, objective: RateDistortionObjective, extension: str
) -> None:
    whole = load_gaussians(scene)
    fewer = reduce_count(whole, round(0.15 * len(whole)), objective)
    rounding = objective.loss_db(fewer) / 4
    with Encoder.temporary(FORMATS[extension], SceneSource.of(whole)) as encoder:
        steps = find_steps(fewer, encoder, objective, rounding)
        plain = encode(fewer, encoder, objective, steps)
        for part in (0.5, 0.9):
            limit = plain.loss_db / part
            more = adjust_steps(fewer, encoder, objective, limit, plain, steps, rounding)
            assert part * limit <= more.loss_db <= limit
            # The errors of two grids of similar steps may add up anyhow: then nothing changes.
            if extension == ".sog":
                unused = limit - more.loss_db
                assert more.size < plain.size and unused <= 0.7 * (1 - part) * limit
            else:
                assert more is plain or more.size < plain.size


@pytest.mark.slow
def test_loss_agrees_with_the_reference_rasterizer(
    scene: Path, objective: RateDistortionObjective
) -> None:
    whole = load_gaussians(scene)
    with Encoder.temporary(FORMATS[".spz"], SceneSource.of(whole)) as encoder:
        encoded = for_max_loss(whole, encoder, objective, 1.0, lambda done: None)
        found = load_gaussians(encoded.path)
    # The reference rasterizer, not the kernel that was searched with.
    cameras, changed = objective.eval_cameras.to("cpu", torch.float64), []
    for view in range(len(objective.eval_cameras)):
        one, two = (
            rasterize(g.to(torch.float64), cameras[[view]]).rgb[0].clamp(0, 1)
            for g in (whole, found)
        )
        changed.append(float((one - two).square().mean()))
    expected = 10 * math.log10(1 + sum(changed) / len(changed) / objective.scene_error)
    assert encoded.loss_db == pytest.approx(expected, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("extension", [".sog", ".spz", ".ply"])
def test_size_stays_within_its_limit(
    scene: Path, sample: Path, extension: str, tmp_path: Path, capsys
) -> None:
    out, wanted = tmp_path / f"b{extension}", 0.05
    options = ["--target-size", str(wanted), "--cameras", str(sample), "--json", *FAST]
    cli.main(["compress", str(scene), "-o", str(out), *options])
    assert 0.9 * wanted <= out.stat().st_size / 1e6 <= wanted
    summary = json.loads(capsys.readouterr().out)
    assert summary["loss_db"] > 0


def test_clipped_colors_lose_nothing(scene: Path, objective: RateDistortionObjective) -> None:
    whole = load_gaussians(scene)
    bright = replace(whole, sh=whole.cut_sh(0).sh + 1.0)
    seen = RateDistortionObjective.of(bright, objective.eval_cameras)
    assert float(seen.eval_images.max()) == 1.0
    assert seen.loss_db(bright) == 0
    fewer = reduce_count(bright, round(0.9 * len(bright)), seen)
    assert seen.loss_db(fewer) < 0.05


@pytest.mark.slow
def test_steps_do_not_count_earlier_losses(scene: Path, objective: RateDistortionObjective) -> None:
    """What reducing the number of Gaussians has lost is not part of the loss of quantisation."""
    whole = load_gaussians(scene)
    fewer = reduce_count(whole, round(0.3 * len(whole)), objective)
    already = objective.loss_db(fewer)
    rounding = already / 4
    assert rounding > 0.005
    with Encoder.temporary(FORMATS[".sog"], SceneSource.of(whole)) as encoder:
        steps = find_steps(fewer, encoder, objective, rounding)
    assert min(steps.color, steps.scale, steps.quat, steps.opacity) > 0.004
    more = objective.loss_db(quantise(fewer, steps)) - already
    assert 0.2 * rounding < more < 1.3 * rounding


def test_prefixes_in_order_of_importance_beat_random_subsets(
    scene: Path, objective: RateDistortionObjective
) -> None:
    whole = load_gaussians(scene)
    cameras = objective.train_views.cameras
    order = importance_order(whole, cameras)
    assert torch.equal(order.sort().values, torch.arange(len(whole)))
    ordered = whole[order]
    generator = torch.Generator().manual_seed(0)
    for part in (0.5, 0.25, 0.1):
        count = round(part * len(whole))
        chance = torch.randperm(len(whole), generator=generator)[:count]
        best = ordered[torch.arange(count)]
        assert objective.loss_db(best) < objective.loss_db(whole[chance]) - 1.5


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
def test_a_larger_file_is_reported(scene: Path, sample: Path, tmp_path: Path, capsys) -> None:
    options = ["--keep", "1", "--cameras", str(sample), *FAST]
    small, large = str(tmp_path / "b.sog"), str(tmp_path / "c.ply")
    cli.main(["compress", str(scene), "-o", small, *options])
    said = capsys.readouterr()
    assert "is larger than" not in said.err and "kB (" in said.out
    cli.main(["compress", small, "-o", large, *options])
    assert f"{large} is larger than {small}" in capsys.readouterr().err


def test_synthetic_cameras_look_at_the_scene(scene: Path) -> None:
    whole = load_gaussians(scene)
    cameras = sphere_cameras(whole)
    pixels, depth = cameras.project(whole.means.median(0).values[None])
    assert (depth > 0).all()
    assert ((pixels - cameras.width / 2).abs() < 0.2 * cameras.width).all()
    assert torch.allclose(torch.linalg.det(cameras.viewmats), torch.ones(len(cameras)), atol=1e-4)
    around, far, near = synthetic_cameras(whole)
    assert torch.equal(around.viewmats, cameras.viewmats)
    middle = whole.means.median(0).values[None]
    deep, nearer = (kind.project(middle)[1].mean() for kind in (far, near))
    assert 0 < nearer < deep


def test_the_group_with_the_largest_loss_counts(
    scene: Path, objective: RateDistortionObjective
) -> None:
    whole = load_gaussians(scene)
    one, two = objective.eval_cameras[[0]], objective.eval_cameras[[1, 2]]
    alone = [RateDistortionObjective.of(whole, kind) for kind in (one, two)]
    both = RateDistortionObjective.of(whole, one, two)
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
def test_limits_out_of_range(
    scene: Path, options: list[str], message: str, tmp_path: Path, capsys
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(scene), "-o", str(tmp_path / "b.sog"), *options])
    assert end.value.code == 2 and message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_photos_of_another_scene_are_refused(
    scene: Path, sample: Path, tmp_path: Path, capsys
) -> None:
    whole = load_gaussians(scene)
    away = replace(whole, means=whole.means + 1000.0)
    save_gaussians(tmp_path / "away.ply", away)
    options = ["-o", str(tmp_path / "b.sog"), "--cameras", str(sample), *FAST]
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(tmp_path / "away.ply"), *options])
    assert end.value.code == 2 and "does not match the photos" in capsys.readouterr().err
    assert not (tmp_path / "b.sog").exists()


@pytest.mark.slow
def test_weak_sh_are_dropped_for_more_gaussians(
    scene: Path, objective: RateDistortionObjective
) -> None:
    whole = load_gaussians(scene)
    noise = torch.randn(len(whole), 8, 3, generator=torch.Generator().manual_seed(0))
    for strength, size, degree in ((0.002, 0.15, 0), (0.2, 0.5, 2)):
        shiny = replace(whole, sh=torch.cat([whole.cut_sh(0).sh, strength * noise], 1))
        seen = RateDistortionObjective.of(shiny, objective.eval_cameras)
        with Encoder.temporary(FORMATS[".spz"], SceneSource.of(whole)) as encoder:
            encoded = for_target_size(shiny, encoder, seen, size, lambda done: None)
            assert encoded.size <= 1e6 * size
            assert load_gaussians(encoded.path).sh_degree == degree


def test_the_input_is_not_overwritten(scene: Path, tmp_path: Path, capsys) -> None:
    copy = tmp_path / "copy.ply"
    copy.write_bytes(scene.read_bytes())
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(copy), "-o", f"{tmp_path}/../{tmp_path.name}/copy.ply"])
    assert end.value.code == 2 and "is the input" in capsys.readouterr().err
    assert copy.read_bytes() == scene.read_bytes()


def test_limits_that_cannot_be_met(
    scene: Path, objective: RateDistortionObjective, tmp_path: Path
) -> None:
    whole = load_gaussians(scene)
    with Encoder.temporary(FORMATS[".splat"], SceneSource.of(whole)) as encoder:
        with pytest.raises(ConfigError, match="max_loss_db=1e-06: .splat alone loses"):
            for_max_loss(whole, encoder, objective, 1e-6, lambda done: None)
        with pytest.raises(ConfigError, match="target_mb=1e-05: 1 of the Gaussians take"):
            for_target_size(whole, encoder, objective, 1e-5, lambda done: None)
    folder = encoder.folder
    assert not folder.exists()


def test_an_empty_scene_is_refused(scene: Path, tmp_path: Path, capsys) -> None:
    write_empty_ply(tmp_path / "none.ply")
    with pytest.raises(SystemExit) as end:
        cli.main(["compress", str(tmp_path / "none.ply"), "-o", str(tmp_path / "b.sog")])
    assert end.value.code == 2 and "is empty" in capsys.readouterr().err
    assert not (tmp_path / "b.sog").exists()


def test_library_entry(scene: Path, sample: Path, tmp_path: Path) -> None:
    """The library writes the file that the command line writes, and reports its progress."""
    capture, whole = load_capture(sample), load_gaussians(scene)
    views = load_views([capture.frames[i] for i in select_spread(capture, 3)], 64)
    stages: list[str] = []
    found = compress(
        open_scene(scene),
        tmp_path / "a.ply",
        keep_fraction=0.3,
        views=views,
        progress=lambda stage, done: stages.append(stage),
    )
    options = ["--keep", "0.3", "--cameras", str(sample), "--quiet", *FAST]
    cli.main(["compress", str(scene), "-o", str(tmp_path / "b.ply"), *options])
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()
    assert found.path == tmp_path / "a.ply" and found.num_gaussians == round(0.3 * len(whole))
    assert found.size == found.path.stat().st_size and found.loss_db > 0
    assert stages == ["rendering", "compressing"]
    with pytest.raises(ConfigError, match="target_mb and keep_fraction exclude each other"):
        compress(whole, tmp_path / "c.ply", target_mb=1.0, keep_fraction=0.3)
    assert not (tmp_path / "c.ply").exists()
