"""A limit of memory is kept, and what was reduced for it is said."""

import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from memory import in_fresh_process, peak_bytes

from recon.capture import load_capture
from recon.capture.orientation import photo_size
from recon.cli.main import main
from recon.cli.reconstruct import expected_count
from recon.config import OptimiseConfig, ReconstructConfig, SimplifyConfig, ViewConfig
from recon.control_groups import core_limit, free_memory
from recon.cores import allowed_cores
from recon.errors import ConfigError
from recon.memory import available_memory
from recon.memory_limit import MemoryEstimate, fit_memory


def test_whatever_takes_most_is_reduced(sample: Path) -> None:
    frames = load_capture(sample).frames
    config = ReconstructConfig()
    assert fit_memory(config, frames) == (config, None)
    most = replace(config, memory_gb=100.0)
    assert fit_memory(most, frames) == (most, None)
    sizes = []
    for limit in (2.0, 1.0, 0.8, 0.65):
        fitting, line = fit_memory(replace(config, memory_gb=limit), frames)
        size = fitting.views.resolution
        sizes.append((fitting.fusion.resolution, fitting.simplify.limit(size), size))
        assert line is None or line.startswith(f"limiting memory to {limit:g} GB: ")
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    # Many photos are made smaller before any is left out.
    fitting, line = fit_memory(replace(config, memory_gb=0.8), frames * 100)
    assert fitting.views.resolution < config.views.resolution
    assert line is not None
    assert f"photos of {fitting.views.resolution} px" in line


@pytest.mark.parametrize("count", [2, 3, 4])
def test_few_photos_are_reduced_only_as_much_as_needed(sample: Path, count: int) -> None:
    frames, config = load_capture(sample).frames[:count], ReconstructConfig()
    needed = MemoryEstimate.of(config, photo_size(frames[0]), count).total
    for fraction in (0.98, 0.9, 0.8):
        limit = fraction * needed
        fitting, line = fit_memory(replace(config, memory_gb=limit / 1e9), frames)
        assert 0.85 * limit < MemoryEstimate.of(fitting, (512, 384), count).total <= limit
        side = fitting.fusion.few_side(512)
        assert 256 < side < 384 and line is not None and line.endswith(f": depth at {side} px")
        assert fitting.simplify == config.simplify


def test_gaussians_are_reduced_by_what_is_missing(sample: Path) -> None:
    frames = load_capture(sample).frames[:8]
    config = ReconstructConfig(simplify=SimplifyConfig(fraction=0.0, max_gaussians=500_000))
    before = MemoryEstimate.of(config, photo_size(frames[0]), 8)
    limit = before.total - 30e6
    fitting, line = fit_memory(replace(config, memory_gb=limit / 1e9), frames)
    after = MemoryEstimate.of(fitting, photo_size(frames[0]), 8)
    assert limit - 2000 < after.total <= limit
    assert line is not None and line.endswith(f" GB: {after.gaussians:,} Gaussians")
    assert fitting.fusion == config.fusion and fitting.views == config.views


def test_the_estimate_does_not_grow_with_photos_but_by_their_pixels() -> None:
    config = ReconstructConfig()
    few, many = (MemoryEstimate.of(config, (512, 288), count) for count in (40, 500))
    assert many.total - few.total == 460 * 512 * 288 * 5
    assert many.total < 2e9


def test_without_a_limit_the_machine_limits(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames, config = load_capture(sample).frames, ReconstructConfig(ViewConfig(resolution=4096))
    assert (available := available_memory()) is None or available > 1e8
    monkeypatch.setattr("recon.memory_limit.available_memory", lambda: 0.7e9)
    fitting, line = fit_memory(config, frames)
    assert fitting != config and line is not None
    assert line.startswith("about ") and "0.7 GB are available; reduced: " in line
    monkeypatch.setattr("recon.memory_limit.available_memory", lambda: 0.3e9)
    with pytest.raises(ConfigError, match="0.30 GB of memory are available, but even"):
        fit_memory(config, frames)


def test_too_little_memory_is_an_error(
    sample: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"memory_gb is 0\.1, but even the smallest settings"):
        fit_memory(ReconstructConfig(memory_gb=0.1), load_capture(sample).frames)
    with pytest.raises(SystemExit) as stop:
        main([str(sample), "-o", str(tmp_path / "a.ply"), "--memory", "0.1"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("recon: error: --memory is 0.1, but even the smallest settings take")


def peak_of_a_run(sample: Path, config: ReconstructConfig) -> int:
    from recon.pipeline import reconstruct

    reconstruct(sample, config)
    return peak_bytes()


def test_the_limit_is_kept(sample: Path) -> None:
    """Three photos, which take more than the limit at their full resolution."""
    config = ReconstructConfig(ViewConfig(max_views=3), optimise=OptimiseConfig(steps=1))
    assert MemoryEstimate.of(config, (512, 384), 3).total > 0.6e9
    assert in_fresh_process(peak_of_a_run, sample, replace(config, memory_gb=0.6)) < 0.6e9


def control_groups(folder: Path, lines: str, files: dict[str, str]) -> None:
    """Write a tree of control groups and the file that says which the process is in."""
    (folder / "self").write_text(lines)
    for name, text in files.items():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_text(text + "\n")


STAT = "anon 700\ninactive_file 20\nactive_file 10\nfile 40"
TOTALS = "cache 9\ntotal_inactive_file 20\ntotal_active_file 10"


@pytest.mark.parametrize(
    ("lines", "files", "cores", "free"),
    [
        ("0::/\n", {}, math.inf, math.inf),
        ("0::/\n", {"cpu.max": "max 100000", "memory.max": "max", "memory.current": "1"},
         math.inf, math.inf),
        ("0::/\n", {"cpu.max": "150000 100000", "memory.max": "1000", "memory.current": "800",
                    "memory.stat": STAT}, 1.5, 230),
        # The smallest limit of a group and those above it.
        ("0::/a/b\n", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000",
                       "a/b/memory.max": "900", "a/b/memory.current": "100",
                       "a/memory.max": "1000", "a/memory.current": "700"}, 2, 300),
        # The path is that of the system, and the tree begins at the container.
        ("0::/../host/x\n", {"cpu.max": "400000 100000"}, 4, math.inf),
        ("4:memory:/docker/x\n1:cpuset:/\n3:cpu,cpuacct:/docker/x\n0::/\n",
         {"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000",
          "memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "900",
          "memory/memory.stat": TOTALS}, 3, 130),
        ("4:memory:/s/x\n3:cpu:/s\n", {"cpu/s/cpu.cfs_quota_us": "-1",
         "cpu/s/cpu.cfs_period_us": "100000", "memory/s/memory.limit_in_bytes": "500",
         "memory/s/memory.usage_in_bytes": "100", "memory/s/x/memory.limit_in_bytes": "400",
         "memory/s/x/memory.usage_in_bytes": "90"}, math.inf, 310),
        ("damaged", {"cpu.max": "many of them"}, math.inf, math.inf),
    ],
)  # fmt: skip
def test_limits_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    lines: str, files: dict[str, str], cores: float, free: float,
) -> None:  # fmt: skip
    control_groups(tmp_path, lines, files)
    monkeypatch.setattr("recon.control_groups.ROOT", tmp_path / "tree")
    monkeypatch.setattr("recon.control_groups.MEMBERSHIP", tmp_path / "self")
    assert core_limit() == cores and free_memory() == free
    mine = len(os.sched_getaffinity(0))
    assert allowed_cores() == (mine if cores == math.inf else min(mine, math.ceil(cores)))
    assert free == math.inf or 0 < float(available_memory() or 0) < 1e10


def test_less_than_one_core_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    control_groups(tmp_path, "0::/\n", {"cpu.max": "20000 100000"})
    monkeypatch.setattr("recon.control_groups.ROOT", tmp_path / "tree")
    monkeypatch.setattr("recon.control_groups.MEMBERSHIP", tmp_path / "self")
    assert allowed_cores() == 1


@pytest.mark.parametrize("steps", [0, 10])
def test_the_expected_size_grows_with_the_photos(sample: Path, steps: int) -> None:
    """The room on the disk is checked by it before the work begins."""
    capture = load_capture(sample)
    config = ReconstructConfig(ViewConfig(resolution=256), optimise=OptimiseConfig(steps=steps))
    one, two = (
        expected_count(replace(config, views=ViewConfig(count, 256)), capture) for count in (1, 2)
    )
    assert two == 2 * one > 0
    few = replace(config, simplify=SimplifyConfig(max_gaussians=100))
    assert expected_count(few, capture) == 100
