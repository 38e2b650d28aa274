"""`recon batch LIST -o FOLDER`: reconstruct many captures."""

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from recon.cli.arguments import OUTPUT, Arg, UsageError
from recon.cli.options import ReconstructOptions
from recon.errors import InputError, counted
from recon.reporting import note, say
from recon.scene_extensions import SCENE_EXTENSIONS

if TYPE_CHECKING:
    from recon.batch import Item, Results
    from recon.workers import Halt


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
        from recon.workers import computing

        self._check()
        items = read_list(self.captures)
        facts = asdict(self.options) | {"memory": self.memory, "extension": self.extension}
        with computing(self.processes, self.timeout, self.ray) as compute:
            begin_folder(self.output, {"kind": "batch", **facts})
            results = Results(self.output, self.retry)
            results.check_names(items, self.extension, self.save_cameras)
            waiting = [
                index
                for index, item in enumerate(items)
                if not results.is_done(item, self.extension, self.save_cameras)
            ]
            note(f"captures done before: {len(items) - len(waiting)} of {len(items)}")
            jobs = [(index, (self._job(items[index]), self._threads())) for index in waiting]
            for index, result in compute(reconstruct_one, jobs):
                self._add(results, items[index], result)
        failed = [item.name for item in items if results.error(item) is not None]
        if len(failed) == len(items):
            raise InputError(
                f"no capture of {self.captures} could be reconstructed; the reasons are in "
                f"{results.path}"
            )
        end = f", {len(failed)} failed (see {results.path})" if failed else ""
        say(f"{self.output} holds {counted(len(items) - len(failed), 'scene')}{end}")

    def _add(self, results: "Results", item: "Item", result: bytes | str) -> None:
        """List a capture that was reconstructed, or why it could not be."""
        if isinstance(result, str):
            results.add(item, {"error": result})
            note(f"failed {item.name}: {result}")
            return
        row: dict[str, Any] = json.loads(result)
        results.add(item, row)
        note(f"{row['output']}: {row['gaussians']:,} Gaussians, {row['seconds']:.0f} s")

    def _check(self) -> None:
        """Check the options before the first capture.

        Raises:
            ReconError: One of them cannot be right.
        """
        from recon.devices import choose_device
        from recon.model.registry import build_model

        if self.extension not in SCENE_EXTENSIONS:
            listed = ", ".join(SCENE_EXTENSIONS)
            raise UsageError(f"--extension: expected one of {listed}, found {self.extension!r}")
        if self.processes < 1:
            raise UsageError(f"--processes must be at least 1, found {self.processes}")
        if self.timeout <= 0:
            raise UsageError(f"--timeout must be above 0, found {self.timeout:g}")
        replace(self.options.config(), memory_gb=self.memory)
        choose_device(self.options.device)
        build_model(self.options.model)

    def _job(self, item: "Item") -> dict[str, Any]:
        """Return the fields of the command that reconstructs a capture."""
        from recon.batch import cameras_beside

        options = self.options
        if options.model.endswith(".safetensors"):  # on a cluster, the folder is another one
            options = replace(options, model=str(Path(options.model).resolve()))
        output = self.output.resolve() / f"{item.name}{self.extension}"
        cameras = cameras_beside(output, self.extension) if self.save_cameras else None
        return {
            "input": (Path(os.path.realpath(item.capture)),), "output": output, "options": options,
            "memory": self.memory, "save_cameras": cameras, "quiet": True,
        }  # fmt: skip

    def _threads(self) -> int:
        """Return the number of threads of each process; on a cluster, what Ray gives a task."""
        from recon.cores import allowed_cores

        return 1 if self.ray is not None else max(1, allowed_cores() // self.processes)


def reconstruct_one(fields: dict[str, Any], threads: int) -> "bytes | str | Halt":
    """Reconstruct a capture as `recon INPUT` does; return its JSON object, or why there is none."""
    import torch

    from recon.cli.main import user_error
    from recon.cli.reconstruct import Reconstruct
    from recon.files import has_no_room, temporary_folder
    from recon.reporting import telling_warnings
    from recon.workers import Halt

    torch.set_num_threads(threads)
    try:
        with temporary_folder() as folder, telling_warnings():
            summary = folder / "summary.json"
            Reconstruct(**fields, json=summary).run()
            return summary.read_bytes()
    except Exception as error:
        text = user_error(error)
        if text is None:
            raise
        # The disk is no fault of the capture, which is tried again.
        return Halt(f"{fields['input'][0]}: {text}") if has_no_room(error) else text
