"""`recon batch LIST -o FOLDER`: reconstruct many captures."""

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from recon.cli.arguments import OUTPUT, Arg
from recon.cli.options import ReconstructOptions
from recon.errors import InputError, counted
from recon.reporting import note, say
from recon.scene_extensions import SCENE_EXTENSIONS


@dataclass(frozen=True)
class Batch:
    """Reconstruct many captures, in processes of this machine or on a Ray cluster."""

    captures: Annotated[Path, Arg(positional=True, metavar="LIST")]
    """Text file with the path of a capture a line, relative to it, or a .jsonl file of objects with
    a path and, if wanted, a name for the scene. Captures are all that recon takes: folders of
    photos, videos, COLMAP projects and so on."""
    output: Annotated[Path, OUTPUT]
    """Folder of the scenes; an interrupted call goes on with the captures that are missing."""
    options: ReconstructOptions = field(default_factory=ReconstructOptions)
    memory: Annotated[float | None, Arg(metavar="GB")] = None
    """Limit of memory (GB) of each process, as for one capture [default: none]."""
    extension: Annotated[str, Arg(metavar="EXT", title="Output")] = ".ply"
    """Format of the scenes ({scene_extensions})."""
    save_cameras: bool = False
    """Also write the cameras of each scene, to NAME.cameras.json."""
    retry: bool = False
    """Try captures again that failed before."""
    processes: Annotated[int, Arg(title="Machines")] = 1
    """Number of captures at a time; on one machine, they divide its cores."""
    timeout: Annotated[float, Arg(metavar="SECONDS")] = 7200.0
    """Give up a capture after this time."""
    ray: Annotated[str | None, Arg(metavar="ADDRESS")] = None
    """Compute on a Ray cluster: its address, auto for the one of this machine, or local to start
    one here. Its machines need recon and the same files."""

    def run(self) -> None:
        """Make the scenes that are missing, and list each capture in results.jsonl.

        Raises:
            InputError: Nothing can be done, or no capture could be reconstructed.
        """
        from recon.batch import Results, read_list
        from recon.resumable import begin_folder
        from recon.workers import check_ray, local_results, ray_results

        self._check()
        items = read_list(self.captures)
        if self.ray is not None:
            check_ray(self.ray)
        facts = asdict(self.options) | {"memory": self.memory, "extension": self.extension}
        begin_folder(self.output, {"kind": "batch", **facts})
        results = Results(self.output, self.retry)
        results.check_names(items, self.extension)
        waiting = [index for index, item in enumerate(items) if not results.is_done(item)]
        say(f"captures done before: {len(items) - len(waiting)} of {len(items)}")
        jobs = [(index, (self._job(items[index].capture, items[index].name), self._threads()))
                for index in waiting]  # fmt: skip
        made = (
            local_results(reconstruct_one, jobs, self.processes, self.timeout)
            if self.ray is None
            else ray_results(reconstruct_one, jobs, self.processes, self.timeout, self.ray)
        )
        for index, result in made:
            item = items[index]
            if isinstance(result, str):
                results.add(item, {"error": result})
                note(f"failed {item.name}: {result}")
                continue
            row: dict[str, Any] = json.loads(result)
            results.add(item, row)
            say(f"{row['output']}: {row['gaussians']:,} Gaussians, {row['seconds']:.0f} s")
        failed = [item.name for item in items if results.error(item) is not None]
        if len(failed) == len(items):
            raise InputError(
                f"no capture of {self.captures} could be reconstructed; the reasons are in "
                f"{results.path}"
            )
        end = f", {len(failed)} failed (see {results.path})" if failed else ""
        say(f"{self.output} holds {counted(len(items) - len(failed), 'scene')}{end}")

    def _check(self) -> None:
        """Check the options before the first capture.

        Raises:
            ReconError: One of them cannot be right.
        """
        from recon.devices import choose_device
        from recon.model.registry import build_model

        if self.extension not in SCENE_EXTENSIONS:
            listed = ", ".join(SCENE_EXTENSIONS)
            raise InputError(f"--extension: expected one of {listed}, found {self.extension!r}")
        if self.processes < 1:
            raise InputError(f"--processes must be at least 1, found {self.processes}")
        if self.timeout <= 0:
            raise InputError(f"--timeout must be above 0, found {self.timeout:g}")
        replace(self.options.config(), memory_gb=self.memory)
        choose_device(self.options.device)
        build_model(self.options.model)

    def _job(self, capture: Path, name: str) -> dict[str, Any]:
        """Return the fields of the command that reconstructs a capture."""
        model, options = Path(self.options.model), self.options
        if model.exists():  # on a cluster, the folder is another one
            options = replace(options, model=str(model.resolve()))
        output = self.output.resolve() / f"{name}{self.extension}"
        cameras = output.with_name(f"{name}.cameras.json") if self.save_cameras else None
        return {
            "input": (capture.resolve(),), "output": output, "options": options,
            "memory": self.memory, "save_cameras": cameras, "quiet": True,
        }  # fmt: skip

    def _threads(self) -> int:
        """Return the number of threads of each process; on a cluster, what Ray gives a task."""
        from recon.cores import allowed_cores

        return 1 if self.ray is not None else max(1, allowed_cores() // self.processes)


def reconstruct_one(fields: dict[str, Any], threads: int) -> bytes | str:
    """Reconstruct a capture as `recon INPUT` does; return its JSON object, or why there is none."""
    import torch

    from recon.cli.main import user_error
    from recon.cli.reconstruct import Reconstruct
    from recon.files import temporary_folder
    from recon.reporting import telling_warnings

    torch.set_num_threads(threads)
    with temporary_folder() as folder:
        summary = folder / "summary.json"
        try:
            with telling_warnings():
                Reconstruct(**fields, json=summary).run()
        except Exception as error:
            text = user_error(error)
            if text is None:
                raise
            return text
        return summary.read_bytes()
