"""Programs of `python -m training. ...` end with one line on an error that a user can correct."""

import importlib
import json
from pathlib import Path

import pytest

from recon.errors import InputError, warn
from training.baselines import compare
from training.evaluation import passers_by
from training.programs import check_outputs, make_folder, program, write_numbers

MEASURING = (
    ("training.evaluation.camera_poses", "nothing.yaml", "nothing.yaml"),
    ("training.evaluation.camera_poses", "suite.yaml --json no/a.json", "no does not exist"),
    ("training.evaluation.passers_by", "nowhere new", "nowhere"),
    ("training.evaluation.passers_by", "{sample} old --split 2v", "old"),
    ("training.evaluation.rate_distortion", "nothing.yaml", "nothing.yaml"),
    ("training.evaluation.rate_distortion", "suite.yaml --json no/a.json", "no does not exist"),
    ("training.evaluation.surfaces", "nothing", "no scene 'nothing'"),
    ("training.evaluation.surfaces", "sample --json no/a.json", "no does not exist"),
    ("training.evaluation.surfaces", "sample --save no/where", "cannot make the folder no/where"),
    ("training.evaluation.textures", "a.ply a.glb nowhere", "nowhere"),
    ("training.baselines.compare", "nothing.yaml", "nothing.yaml"),
    ("training.baselines.compare", "suite.yaml --json no/a.json", "no does not exist"),
    ("training.baselines.compare", "suite.yaml --budgets 1 --plot no/a.png", "no does not exist"),
    ("training.benchmarks.views", "--json no/a.json", "no does not exist"),
    ("training.data.captures", "nowhere", "nowhere"),
    ("training.data.sample_scene", "no/where", "cannot make the folder no/where"),
    ("training.data.collect", "no/where", "cannot make the folder no/where"),
    ("training.benchmarks.data", "dataset.nothing=1", "nothing"),
    ("training.benchmark_report.__main__", "--docs nowhere", "--docs nowhere is no folder"),
)


@pytest.mark.parametrize(
    "module",
    ["training.data.collect", "training.data.sample_scene", "training.data.captures",
     "training.data.procedural.contact_sheet"],
)  # fmt: skip
def test_a_path_must_be_named(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main([])
    assert end.value.code == 2 and "arguments are required: " in capsys.readouterr().err


@pytest.mark.parametrize(("module", "words", "message"), MEASURING)
def test_user_errors_end_a_program_before_it_measures(
    module: str, words: str, message: str, sample: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if module.endswith("textures"):
        pytest.importorskip("trimesh")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suite.yaml").write_text(f"root: {sample.parent}\ncases: {{{sample.name}: [2v]}}\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "a").touch()
    with pytest.raises(SystemExit) as end:
        importlib.import_module(module).main(words.format(sample=sample).split())
    error = capsys.readouterr().err
    assert end.value.code == 2 and error.count("\n") == 1
    assert error.startswith("recon: error: ") and message in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old", "suite.yaml"]


def test_the_gate_reads_its_file_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from training.benchmark_report import gate

    monkeypatch.setattr(gate, "FILE", tmp_path / "no" / "metrics.json")
    monkeypatch.setattr(gate, "measure", lambda: pytest.fail("measured"))
    for words in ([], ["--write"]):
        with pytest.raises(SystemExit) as end:
            gate.main(words)
        assert end.value.code == 2 and "metrics.json" in capsys.readouterr().err


def test_results_so_far_are_kept_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Path
) -> None:
    """A case that fails leaves the rows of those before it."""
    rows = iter([{"capture": "a", "split": "b", "seconds": 1.0, "recon": 20.0, "baseline": []}])

    def measured(*arguments: object) -> dict:
        for row in rows:
            return row
        raise InputError("no more")

    monkeypatch.setattr(compare, "compare_case", measured)
    suite, path = tmp_path / "suite.yaml", tmp_path / "a.json"
    suite.write_text(f"root: {sample.parent}\ncases: {{{sample.name}: [2v, dense]}}\n")
    with pytest.raises(SystemExit):
        compare.main([str(suite), "--json", str(path)])
    assert json.loads(path.read_text())[0]["capture"] == "a"


def test_bugs_and_successes_are_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @program
    def main(words=None):
        warn("mind this")
        if words:
            raise ValueError("a bug")

    main()
    assert capsys.readouterr().err == "recon: warning: mind this\n"
    with pytest.raises(ValueError, match="a bug"):
        main(["x"])
    check_outputs(None, tmp_path / "a.json")
    make_folder(None)
    make_folder(tmp_path / "folder")
    write_numbers([1.5], None)
    write_numbers([1.5], tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == [1.5]


def test_passers_by_appear_in_a_whole_copy(sample: Path, tmp_path: Path) -> None:
    changed = passers_by.with_passers_by(sample, tmp_path / "new", "2v")
    assert changed and all(path.is_file() for path in changed)
    for path in changed:
        assert path.read_bytes() != (sample / path.relative_to(tmp_path / "new")).read_bytes()
    with pytest.raises(InputError, match="new"):
        passers_by.with_passers_by(sample, tmp_path / "new", "2v")
