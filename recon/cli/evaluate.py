"""`recon eval CAPTURE --split NAME`: measure quality on held-out photos."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from recon.cli.arguments import Arg, JsonOutput, UsageError, refuse_idle
from recon.cli.options import ReconstructOptions
from recon.cli.outputs import check_outputs
from recon.errors import MissingDependency, strictly
from recon.reporting import prints_json, progress_reporter, say, write_json


@dataclass(frozen=True)
class Evaluate:
    """Reconstruct from the context photos of a split and measure quality on its held-out photos."""

    capture: Annotated[Path | None, Arg(positional=True)] = None
    """Capture whose photos are split into context photos, the input, and held-out photos."""
    split: Annotated[str | None, Arg(metavar="NAME")] = None
    """Name of a split in the splits.json of the capture [default: 2v; without a splits.json,
    --every 8]."""
    every: Annotated[int | None, Arg(metavar="N")] = None
    """Every n-th photo is held out instead (interpolation)."""
    sector: Annotated[float | None, Arg(metavar="FRACTION")] = None
    """This fraction of the photos is held out instead, neighbours at the edge (extrapolation)."""
    suite: Path | None = None
    """YAML file that lists captures and splits, or a RealEstate10K test set, instead of CAPTURE."""
    options: ReconstructOptions = field(default_factory=ReconstructOptions)
    save_renders: Annotated[
        Path | None, Arg(metavar="FOLDER", title="Output", replaces=("--pictures",))
    ] = None
    """Also write images of the renders and held-out photos, side by side, to this folder."""
    markdown: Annotated[Path | None, Arg(replaces=("--table",))] = None
    """Also write the table to this file, as Markdown."""
    json: JsonOutput = None
    """Print all results as one JSON object instead of the table, or write them to FILE as well."""
    force: bool = False
    """Replace an input, or a file in the folder of the capture, if an output has its name."""
    quiet: bool = False
    """Print warnings, errors and the table only."""

    def run(self) -> None:
        """Print a table; output files appear complete or not at all."""
        with strictly(self.options.strict):
            self._evaluate()

    def _evaluate(self) -> None:
        from recon.files import atomic_output

        config = self.options.config()
        self._check()
        check_outputs(
            {"--markdown": self.markdown, "--json": self.json},
            {"--save-renders": self.save_renders},
            inputs=[self.capture, self.suite],
            force=self.force,
            is_result=True,
        )
        try:
            import torchmetrics  # noqa: F401 - needed only when renders are scored
        except ImportError as error:
            raise MissingDependency(
                f"recon eval: {error}; pip install 'reconsplat[train]'"
            ) from error
        from training.evaluation.benchmark import evaluate
        from training.evaluation.captures import EvaluateConfig
        from training.evaluation.methods import recon_method
        from training.evaluation.report import write_images
        from training.evaluation.suite import Case, Suite, read_suite

        if self.suite is not None:
            suite = read_suite(self.suite)
        else:
            assert self.capture is not None
            suite = Suite((Case(self.capture, self._split()),))
        evaluate_config = EvaluateConfig(
            config.views.resolution,
            solve_cameras=config.poses.source == "solve",
            given_only=config.poses.source == "given",
            max_views=config.views.max_views,
            seed=config.seed,
            cache=config.poses.cache,
            device=config.device,
        )
        methods = {config.model: recon_method(config)}
        with progress_reporter(self.quiet or prints_json(self.json)) as progress:
            evaluation = evaluate(methods, suite, evaluate_config, progress=progress)
        table = evaluation.table()
        if self.markdown is not None:
            with atomic_output(self.markdown) as temporary:
                temporary.write_text(table + "\n")
        if self.save_renders is not None:
            with atomic_output(self.save_renders) as temporary:
                write_images(temporary, evaluation.cases)
        if self.json is not None:
            write_json(evaluation.as_dict(), self.json)
        if not prints_json(self.json):
            say(table)
            for reason, count in evaluation.skipped.reasons.items():
                say(f"skipped: {reason} ({count})")

    def _check(self) -> None:
        """Refuse options that contradict each other or would have no effect."""
        if (self.capture is None) == (self.suite is None):
            raise UsageError("recon eval needs a capture or --suite FILE; pass one of them")
        chosen = {"--split": self.split, "--every": self.every, "--sector": self.sector}
        given = [flag for flag, value in chosen.items() if value is not None]
        if self.suite is not None:
            given.append("--suite")
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} exclude each other; pass one of them")
        if self.every is not None and self.every < 2:
            raise UsageError(f"--every must be at least 2, found {self.every}")
        if self.sector is not None and not 0 < self.sector < 1:
            raise UsageError(f"--sector must be between 0 and 1, found {self.sector}")
        frames = ("metric_scale", "marker_size", "gps", "center")
        refuse_idle(self.options, frames, "on the scores of recon eval")

    def _split(self) -> str:
        """Return the name of the split, or the rule by which to split."""
        if self.every is not None:
            return f"every {self.every}"
        if self.sector is not None:
            return f"sector {self.sector}"
        assert self.capture is not None
        folder = self.capture if self.capture.is_dir() else self.capture.parent
        has_splits = (folder / "splits.json").is_file()
        return self.split or ("2v" if has_splits else "every 8")
