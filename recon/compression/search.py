"""Search for the smallest file within a loss, or for the best scene within a file size.

Every candidate is encoded, decoded and rendered: losses are those of the file.
"""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TypeVar

from recon.compression.encoder import UNQUANTISED, Encoder, QuantisationSteps, find_steps
from recon.compression.objective import RateDistortionObjective
from recon.compression.reduction import reduce_count, reduce_sh
from recon.compression.synthetic_cameras import synthetic_cameras
from recon.errors import ConfigError, InputError, warn
from recon.files import atomic_output
from recon.formats import SceneSource, format_of, writable
from recon.simplification.decimation import importance_order
from recon.start_camera import local_start
from recon.types import Progress, StageProgress, Views
from render import Cameras, Gaussians

BYTES_PER_MB = 1_000_000
# Loss of PSNR that is permitted unless a limit is given (dB).
DEFAULT_LOSS_DB = 0.1
# Mean squared error above which the photos must be of another scene (10 dB).
MAX_SCENE_ERROR = 0.1
# Fractions of the permitted loss for the reduction of the SH degree and for quantisation.
SH_FRACTION, QUANTISATION_FRACTION = 0.3, 0.2
# Initial fraction of the Gaussians; exponents of loss and size as functions of their number.
FIRST_FRACTION, LOSS_EXPONENT, SIZE_EXPONENT = 0.3, -1.5, 1.0
# Adjustments of the quantisation after the search, and the range of the factor of its loss.
ADJUSTMENTS, ADJUSTMENT_RANGE = 2, (0.25, 4.0)
# Evaluations of a root search, and the fraction of a target above which it counts as met.
EVALUATIONS, MET_FRACTION = 8, 0.95
AIM = 0.5 * (1 + MET_FRACTION)
# A root search ends when its bracket is narrower than this ratio: what remains is noise.
MIN_BRACKET_RATIO = 1.015
# Range of the exponents that two evaluations may suggest.
MIN_EXPONENT, MAX_EXPONENT = 0.2, 6.0
Candidate = TypeVar("Candidate")


@dataclass(frozen=True)
class EncodedScene:
    """A scene in a file of the encoder's temporary folder."""

    path: Path
    num_gaussians: int
    loss_db: float
    """Loss of PSNR, measured on the decoded file (dB)."""
    warnings: tuple[str, ...] = ()
    """What the writer warned of."""

    @property
    def size(self) -> int:
        """Size of the file (bytes)."""
        return self.path.stat().st_size

    def saved(self, path: Path) -> "EncodedScene":
        """Copy the file to `path`, completely or not at all."""
        with atomic_output(path) as temporary:
            shutil.copyfile(self.path, temporary)
        for message in self.warnings:
            warn(message.replace(str(self.path), str(path)))
        return replace(self, path=path)


def compress(
    scene: Gaussians | SceneSource,
    path: str | Path,
    *,
    max_loss_db: float | None = None,
    target_mb: float | None = None,
    keep_fraction: float | None = None,
    views: Views | None = None,
    cameras: Cameras | None = None,
    progress: StageProgress = lambda stage, done: None,
) -> EncodedScene:
    """Write a smaller file of a scene, in the format of the extension.

    At most one of `max_loss_db`, `target_mb` and `keep_fraction` may be given; without any, the
    loss is limited to 0.1 dB. Losses are measured at the cameras and at the midpoints between
    neighbours; without cameras, from synthetic ones, and other views may lose more.

    Args:
        scene: Gaussians in the frame of the cameras, or an open file, relative to whose origin the
            cameras are.
        path: File to write; it appears completely or not at all.
        max_loss_db: Limit of the loss of PSNR (dB); the smallest file is searched for.
        target_mb: Limit of the file size (10^6 bytes); the smallest loss is searched for.
        keep_fraction: Fraction of the Gaussians to keep, in (0, 1]; the most important ones stay
            unchanged, and no search is needed.
        views: Photos of the scene, which also tell how accurate the scene itself is.
        cameras: Cameras of the scene, if there are no photos.
        progress: Called with the stage and its completed fraction.

    Returns:
        The file at `path`, with its loss.

    Raises:
        ConfigError: A limit is out of range or cannot be met, or several are given.
        InputError: The extension is unknown, or the scene is empty, has invalid values, such as NaN
            or opacities above 1, or does not match the views.
    """
    limits = _checked_limits(max_loss_db, target_mb, keep_fraction)
    source = SceneSource.of(scene) if isinstance(scene, Gaussians) else scene
    if source.count == 0:
        raise InputError("the scene is empty: it needs at least one Gaussian to compress")
    path = Path(path)
    scene_format = format_of(path)
    scene = writable(path, source.load())
    progress("rendering", 0.0)
    start = None if source.start is None else local_start(source.start, source.origin)
    objective = _objective(scene, views, cameras, start, source.antialiased)

    def report(done: float) -> None:
        progress("compressing", done)

    with Encoder.temporary(scene_format, source) as encoder:
        report(0.0)
        if "keep_fraction" in limits:
            found = for_fraction(scene, encoder, objective, limits["keep_fraction"])
        elif "target_mb" in limits:
            found = for_target_size(scene, encoder, objective, limits["target_mb"], report)
        else:
            limit_db = limits.get("max_loss_db", DEFAULT_LOSS_DB)
            found = for_max_loss(scene, encoder, objective, limit_db, report)
        return found.saved(path)


def _checked_limits(
    max_loss_db: float | None, target_mb: float | None, keep_fraction: float | None
) -> dict[str, float]:
    """Return the limit that was given, by name; raise ConfigError if it is out of range."""
    given = {"target_mb": target_mb, "max_loss_db": max_loss_db, "keep_fraction": keep_fraction}
    limits = {name: value for name, value in given.items() if value is not None}
    if len(limits) > 1:
        raise ConfigError(f"{' and '.join(limits)} exclude each other; choose one", *limits)
    for name, value in limits.items():
        bounded = name == "keep_fraction"
        if not 0 < value < math.inf or (bounded and value > 1):
            expected = "above 0, at most 1" if bounded else "above 0"
            raise ConfigError(f"{name} must be {expected}, found {value:g}", name)
    return limits


def _objective(
    scene: Gaussians,
    views: Views | None,
    cameras: Cameras | None,
    start: Cameras | None,
    antialiased: bool,
) -> RateDistortionObjective:
    """Render the scene from its views, its cameras, or synthetic cameras."""
    if views is None:
        groups = synthetic_cameras(scene, start) if cameras is None else (cameras,)
        return RateDistortionObjective.of(scene, *groups, antialiased=antialiased)
    objective = RateDistortionObjective.of(
        scene, views.cameras, photos=views, antialiased=antialiased
    )
    if objective.scene_error > MAX_SCENE_ERROR:
        raise InputError(
            f"the scene does not match the photos: expected a PSNR above "
            f"{-10 * math.log10(MAX_SCENE_ERROR):g} dB, found "
            f"{-10 * math.log10(objective.scene_error):.1f} dB; pass the photos that it was made "
            "from, or none"
        )
    return objective


def for_max_loss(
    scene: Gaussians,
    encoder: Encoder,
    objective: RateDistortionObjective,
    max_loss_db: float,
    progress: Progress,
) -> EncodedScene:
    """Find the smallest file whose loss of PSNR is at most `max_loss_db`.

    The SH degree is reduced first, then quantisation steps are chosen, then the number of
    Gaussians is searched for. ConfigError if the format alone exceeds the limit.
    """
    reduced = _with_reduced_sh(scene, objective, SH_FRACTION * max_loss_db)
    whole = encode(scene, encoder, objective)
    if whole.loss_db > max_loss_db:
        raise ConfigError(
            f"max_loss_db={max_loss_db:g}: {encoder.scene_format.extension} alone loses "
            f"{whole.loss_db:.2f} dB; allow more or choose another format",
            "max_loss_db",
        )
    quantisation_db = QUANTISATION_FRACTION * (max_loss_db - whole.loss_db)
    steps = find_steps(reduced, encoder, objective, quantisation_db)

    def candidate(count: int) -> EncodedScene:
        return encode(reduce_count(reduced, count, objective), encoder, objective, steps)

    found = search_count(
        candidate, lambda each: each.loss_db, max_loss_db, LOSS_EXPONENT,
        round(FIRST_FRACTION * len(reduced)), len(reduced), progress,
    )  # fmt: skip
    permitted = [each for each in (whole, *found) if each.loss_db <= max_loss_db]
    best = min(permitted, key=lambda each: each.size)
    if best is whole or not encoder.quantises or is_met(best.loss_db, max_loss_db):
        return best
    smaller = reduce_count(reduced, best.num_gaussians, objective)
    return adjust_steps(smaller, encoder, objective, max_loss_db, best, steps, quantisation_db)


def for_target_size(
    scene: Gaussians,
    encoder: Encoder,
    objective: RateDistortionObjective,
    target_mb: float,
    progress: Progress,
) -> EncodedScene:
    """Find the file of at most `target_mb` megabytes (10^6 bytes) with the smallest loss.

    ConfigError if even the fewest Gaussians take more.
    """
    limit = target_mb * BYTES_PER_MB
    whole = encode(scene, encoder, objective)
    if whole.size <= limit:
        return whole

    @cache
    def reduced(degree: int) -> Gaussians:
        return reduce_sh(scene, degree, objective.train_views.cameras)

    @cache
    def candidate(degree: int, count: int) -> EncodedScene:
        smaller = reduce_count(reduced(degree), count, objective)
        ratio = QUANTISATION_FRACTION / (1 - QUANTISATION_FRACTION)
        steps = find_steps(smaller, encoder, objective, objective.loss_db(smaller) * ratio)
        return encode(smaller, encoder, objective, steps)

    sizes = [encoder.encode(reduced(degree)).stat().st_size for degree in range(scene.sh_degree)]
    degree, count = _best_degree(len(scene), [*sizes, whole.size], limit, candidate)
    found = search_count(
        lambda count: candidate(degree, count), lambda each: each.size, limit, SIZE_EXPONENT,
        count, len(scene), progress,
    )  # fmt: skip
    permitted = [each for each in found if each.size <= limit]
    if not permitted:
        least = min(found, key=lambda each: each.size)
        raise ConfigError(
            f"target_mb={target_mb:g}: {least.num_gaussians:,} of the Gaussians take "
            f"{least.size / BYTES_PER_MB:.4g} MB already; choose a larger size or another format",
            "target_mb",
        )
    return min(permitted, key=lambda each: each.loss_db)


def for_fraction(
    scene: Gaussians, encoder: Encoder, objective: RateDistortionObjective, fraction: float
) -> EncodedScene:
    """Keep a fraction of the Gaussians, the most important ones, unchanged."""
    order = importance_order(scene, objective.train_views.cameras)
    kept = scene[order[: max(round(fraction * len(order)), 1)]]
    return _encode_in_order(kept, encoder, objective, UNQUANTISED)


def encode(
    scene: Gaussians,
    encoder: Encoder,
    objective: RateDistortionObjective,
    steps: QuantisationSteps = UNQUANTISED,
) -> EncodedScene:
    """Encode a scene and measure its loss; sorted by importance if the format keeps the order."""
    if encoder.scene_format.keeps_order:
        scene = scene[importance_order(scene, objective.train_views.cameras)]
    return _encode_in_order(scene, encoder, objective, steps)


def _encode_in_order(
    scene: Gaussians,
    encoder: Encoder,
    objective: RateDistortionObjective,
    steps: QuantisationSteps,
) -> EncodedScene:
    path = encoder.encode(scene, steps)
    loss_db = objective.loss_db(encoder.decode(path))
    return EncodedScene(path, len(scene), loss_db, tuple(encoder.warnings[path]))


def adjust_steps(
    scene: Gaussians,
    encoder: Encoder,
    objective: RateDistortionObjective,
    max_loss_db: float,
    best: EncodedScene,
    steps: QuantisationSteps,
    quantisation_db: float,
) -> EncodedScene:
    """Quantise a scene more coarsely, to use up what is left of the permitted loss.

    The loss need not be monotonic in the number of Gaussians, so possibly no number brings it just
    below the limit.

    Args:
        scene: The scene that `best` encodes.
        encoder: Encoder of a format that quantises.
        objective: Objective of the original scene.
        max_loss_db: Permitted loss of PSNR (dB).
        best: The scene's file, within the limit; returned if nothing smaller is found.
        steps: Quantisation steps of `best`.
        quantisation_db: Loss that these steps cause (dB).
    """
    last = best
    for _ in range(ADJUSTMENTS):
        # The loss of quantisation grows with the square of its steps, apart from the format's own.
        factor = 1 + (AIM * max_loss_db - last.loss_db) / max(quantisation_db, 1e-9)
        factor = min(max(factor, ADJUSTMENT_RANGE[0]), ADJUSTMENT_RANGE[1])
        steps, quantisation_db = steps.scaled(math.sqrt(factor)), quantisation_db * factor
        last = encode(scene, encoder, objective, steps)
        if last.loss_db <= max_loss_db and last.size < best.size:
            best = last
        if is_met(last.loss_db, max_loss_db):
            break
    return best


def _with_reduced_sh(
    scene: Gaussians, objective: RateDistortionObjective, max_loss_db: float
) -> Gaussians:
    """Reduce the SH degree as far as the loss permits."""
    for degree in range(scene.sh_degree):
        reduced = reduce_sh(scene, degree, objective.train_views.cameras)
        if objective.loss_db(reduced) <= max_loss_db:
            return reduced
    return scene


def _best_degree(
    num_gaussians: int,
    sizes: list[int],
    limit: float,
    candidate: Callable[[int, int], EncodedScene],
) -> tuple[int, int]:
    """Choose between a higher SH degree and more Gaussians within `limit` bytes.

    Args:
        num_gaussians: Number of Gaussians of the original scene.
        sizes: Size of a file of all Gaussians for each SH degree (bytes).
        limit: Permitted size (bytes).
        candidate: Encodes a scene of an SH degree and a number of Gaussians.

    Returns:
        The SH degree, and about how many Gaussians of this degree fit into the limit.
    """
    counts = [min(max(round(num_gaussians * limit / size), 1), num_gaussians) for size in sizes]
    if len(counts) == 1:
        return 0, counts[0]

    def loss_at_limit(degree: int) -> float:
        found = candidate(degree, counts[degree])
        ratio = found.size / limit
        # There are no more Gaussians to add to a smaller file.
        if counts[degree] == num_gaussians:
            ratio = max(ratio, 1.0)
        return found.loss_db * float(ratio**-LOSS_EXPONENT)

    degree = min(range(len(counts)), key=loss_at_limit)
    return degree, counts[degree]


def search_count(
    candidate: Callable[[int], Candidate],
    value: Callable[[Candidate], float],
    target: float,
    exponent: float,
    first: int,
    largest: int,
    progress: Progress,
) -> list[Candidate]:
    """Search for the number of Gaussians whose value is just below a target.

    A bracketed secant search on logarithms: values are taken to follow a power of the number.

    Args:
        candidate: Makes a candidate with a number of Gaussians.
        value: Value of a candidate, such as its loss or its size.
        target: Upper limit of the value; see `is_met`.
        exponent: Initial exponent of the value as a function of the number.
        first: First number to try.
        largest: Largest number; the smallest is 1.
        progress: Called with the completed fraction of the evaluations.

    Returns:
        All candidates, in order; the last one meets the target unless the search has ended.
    """
    low, high, count = 0, largest + 1, min(max(first, 1), largest)
    found: list[Candidate] = []
    before: tuple[int, float] | None = None
    for evaluation in range(EVALUATIONS):
        progress(evaluation / EVALUATIONS)
        found.append(candidate(count))
        current = max(float(value(found[-1])), 1e-9)
        if is_met(current, target):
            break
        if (current < target) == (exponent > 0):
            low = count
        else:
            high = count
        if before is not None:
            exponent = _fitted_exponent(before, (count, current), exponent)
        before = count, current
        guess = round(count * (AIM * target / current) ** (1 / exponent))
        count = guess if low < guess < high else round(math.sqrt(max(low, 0.5) * high))
        if not low < count < high or high < MIN_BRACKET_RATIO * low:
            break
    return found


def is_met(value: float, target: float) -> bool:
    """Return whether a value is at most, and at least 95 % of, the target."""
    return MET_FRACTION * target <= value <= target


def _fitted_exponent(one: tuple[int, float], two: tuple[int, float], exponent: float) -> float:
    """Fit the exponent to two values; an implausible one leaves it unchanged."""
    if one[0] == two[0]:
        return exponent
    new = math.log(two[1] / one[1]) / math.log(two[0] / one[0])
    if new * exponent <= 0:
        return exponent
    return math.copysign(min(max(abs(new), MIN_EXPONENT), MAX_EXPONENT), exponent)
