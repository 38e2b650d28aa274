"""The measurements of a benchmark, each of which gives one entry of its JSON."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from typing import Any

from recon.capture import load_capture
from recon.capture.sfm import SolveConfig
from recon.compression import RateDistortionObjective
from recon.config import OptimiseConfig, ReconstructConfig
from recon.errors import InputError, MissingDependency
from recon.files import temporary_folder
from training.baselines.compare import SFM, CompareConfig, compare_budgets
from training.benchmark_report.captures import Captures
from training.benchmark_report.machine import cores_of_others, run_measured
from training.benchmark_report.plan import Plan
from training.benchmarks.model import bench_model, parse_case
from training.benchmarks.raster import bench_raster
from training.evaluation.camera_poses import pose_scores
from training.evaluation.captures import EvaluateConfig, evaluate_case
from training.evaluation.methods import constant_depth, recon_method
from training.evaluation.rate_distortion import Subject, compressed_rows, plain_rows
from training.evaluation.suite import Case, read_split

METHODS = {
    "recon": ReconstructConfig(),
    "network": ReconstructConfig(optimise=OptimiseConfig(steps=0)),
}
CONSTANT = "constant depth"
# Section of the measurements that do not depend on what else the machine does.
QUALITY = "quality"
NETWORK_SIDE_PX, NETWORK_VIEWS = 256, 2
# Number of cores that others may keep busy while methods get equal times.
BUSY_CORES = 0.5
# Commands that take less than this (s) are run as often; machines are noisy.
SHORT_S, SHORT_RUNS = 30.0, 3


@dataclass(frozen=True)
class Measurement:
    """A measurement that is stored and resumed as a whole."""

    key: str
    """Section and name, such as "quality/fox/dense"."""
    run: Callable[[], dict[str, Any]]
    """Returns the entry of the JSON; raises ReconError where something is missing."""


def measurements(plan: Plan, captures: Captures) -> Iterator[Measurement]:
    """Yield the measurements of a plan: timings first, and each capture once before again."""
    if plan.scenes:
        yield Measurement("raster", partial(raster, plan))
    if plan.networks:
        yield Measurement("networks", partial(networks, plan))
    for name in plan.poses:
        yield Measurement(f"poses/{name}", partial(poses, captures, name))
    for name, counts in plan.photos.items():
        for count in counts:
            yield Measurement(f"photos/{name}/{count}", partial(photos, captures, name, count))
    for name, split in plan.files.items():
        run = partial(files, captures, name, split, name in plan.search)
        yield Measurement(f"files/{name}/{split}", run)
    for name, split in plan.equal_time.items():
        for budget in plan.budgets:
            run = partial(equal_time, captures, name, split, budget)
            yield Measurement(f"equal time/{name}/{split}/{budget:g}", run)
    yield from qualities(plan, captures)


def qualities(plan: Plan, captures: Captures) -> Iterator[Measurement]:
    """Yield the measurements that do not depend on what else the machine does."""
    for name, splits in plan.few.items():
        for split in splits:
            run = partial(quality, captures, name, split, ("recon", "network"))
            yield Measurement(f"{QUALITY}/{name}/{split}", run)
    for held_out in zip_longest(*plan.quality.values()):
        for name, split in zip(plan.quality, held_out, strict=True):
            if split is not None:
                run = partial(quality, captures, name, split)
                yield Measurement(f"{QUALITY}/{name}/{split}", run)


def quality(
    captures: Captures, name: str, split: str, methods: Sequence[str] = ("recon",)
) -> dict[str, Any]:
    """Score methods and the two baselines on the held-out photos of a split."""
    case = Case(captures.find(name), split)
    result = evaluate_case(
        case,
        {method: recon_method(METHODS[method]) for method in methods},
        EvaluateConfig(),
        {CONSTANT: constant_depth()},
    )
    scores = result.as_dict()
    return {
        "photos": len(read_split(load_capture(case.capture), split).context),
        "held_out": len(scores["targets"][result.method]),
        "gaussians": scores["gaussians"],
        "steps": scores["num_steps"],
        "mean": scores["mean"],
    }


def equal_time(captures: Captures, name: str, split: str, budget: float) -> dict[str, Any]:
    """Score recon and 3DGS-MCMC from COLMAP's points after the same total time (s).

    Raises:
        InputError: Other programs keep the cores busy, so that equal times are no equal work.
    """
    case = Case(captures.find(name), split)
    _need("pycolmap", "sfm")
    if (cores_of_others() or 0.0) > BUSY_CORES:
        raise InputError("other programs kept the cores busy, so that equal times mean little")
    config = CompareConfig(starts=(SFM,), budgets=(budget,))
    row = compare_budgets(case, ReconstructConfig(), config)
    (found,) = row["budgets"]
    (baseline,) = found["baseline"]
    return {
        "budget": budget,
        "seconds": found["seconds"],
        "recon": {"psnr": found["recon"], "steps": found["recon_steps"]},
        "baseline": {key: baseline[key] for key in ("psnr", "steps", "gaussians")},
    }


def photos(captures: Captures, name: str, count: int) -> dict[str, Any]:
    """Measure time and memory of the whole command on the best spread photos of a capture.

    Of short commands the run of the median time counts.
    """
    folder = captures.find(name)
    there = len(load_capture(folder).frames)
    if there < count:
        raise InputError(f"{name} has only {there} photos")
    with temporary_folder() as temporary:
        words = [sys.executable, "-m", "recon", str(folder), "-o", str(temporary / "scene.ply")]
        words += ["--max-views", str(count), "--json"]
        runs = [run_measured(words)]
        while len(runs) < SHORT_RUNS and runs[0]["seconds"] < SHORT_S:
            runs.append(run_measured(words))
    found = sorted(runs, key=lambda run: run["seconds"])[len(runs) // 2]
    scene = json.loads(found.pop("out"))
    return {
        "photos": count,
        "gaussians": scene["gaussians"],
        "megabytes": scene["megabytes"],
        **found,
    }


def poses(captures: Captures, name: str) -> dict[str, Any]:
    """Solve the cameras of all photos and compare them with the given ones."""
    _need("pycolmap", "sfm")
    capture = load_capture(captures.find(name))
    if not capture.has_cameras:
        raise InputError(f"{name} has no cameras to compare with")
    return asdict(pose_scores(capture, SolveConfig(use_cache=False)))


def files(captures: Captures, name: str, split: str, search: bool) -> dict[str, Any]:
    """Measure size and held-out PSNR of a scene in every format."""
    case = Case(captures.find(name), split)
    with temporary_folder() as folder:
        subject = Subject.reconstruct(case, folder, ReconstructConfig())
        rows = list(plain_rows(subject))
        if search:
            views = subject.context
            objective = RateDistortionObjective.of(subject.scene, views.cameras, photos=views)
            rows += compressed_rows(subject, objective, ".sog", {})
    return {"rows": rows}


def raster(plan: Plan) -> dict[str, Any]:
    """Time the rasterizer."""
    return bench_raster(tuple(plan.scenes), tuple(plan.degrees), plan.repeats, lambda stage: None)


def networks(plan: Plan) -> dict[str, Any]:
    """Time inference and training of networks."""
    cases = [parse_case(each, NETWORK_SIDE_PX, NETWORK_VIEWS, 1) for each in plan.networks]
    return bench_model(cases, "cpu", "bf16", plan.repeats, lambda stage: None)


def _need(package: str, extra: str) -> None:
    if importlib.util.find_spec(package) is None:
        raise MissingDependency(f"{package} is not installed; pip install 'reconsplat[{extra}]'")
