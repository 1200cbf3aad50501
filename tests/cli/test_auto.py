from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from shared_ranks import RunMain

from seqbraid import MGRIT
from seqbraid.cli.main import main
from seqbraid.options import solver_from_dict
from seqbraid.rnn.auto import choose
from seqbraid.rnn.costs import Costs


def test_scaling_chooses_for_each_number_of_ranks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, plot = tmp_path / "measured.json", tmp_path / "scaling.png"
    arguments = ["--size", "4096,1,3,8", "--ranks", "1", "16", "--coarsening", "auto", "64", "--repeats", "1"]
    network = ["--latency", "1e-5", "--bandwidth", "1e9", "--memory", "40"]
    files = ["--json", str(path), "--plot", str(plot)]
    assert main(["bench", "scaling", *arguments, *network, *files, "--all"]) == 0
    choices = {
        ranks: choose(4096, 1, 8, ranks, 3, memory=40, latency=1e-5, bandwidth=1e9) for ranks in (1, 16)
    }
    said = capsys.readouterr().out
    for choice in choices.values():
        assert str(choice) in said
    record = json.loads(path.read_text())
    assert [solver["coarsening"] for solver in record["solvers"]] == [64]
    points = {(point["ranks"], point["chosen"]): point for point in record["points"]}
    assert set(points) == {(1, False), (1, True), (16, False), (16, True)}
    for ranks, choice in choices.items():
        assert solver_from_dict(record["chosen"][str(ranks)]) == choice.solver
        assert points[ranks, True]["predicted_seconds"] == choice.predicted_seconds
        assert points[ranks, True]["levels"] == getattr(choice.solver, "levels", 1)
        in_numbers = Costs(4096, 1, 3, 8, ranks, 1e-5, 1e9).of(MGRIT(coarsening=64))
        assert points[ranks, False]["predicted_seconds"] == in_numbers
    assert points[1, True]["gradient_error"] < 1e-6  # the exact solver
    rows = [line for line in said.splitlines() if line[:5].strip().isdigit()]
    assert [line.split()[:2] for line in rows] == [
        ["1", "64"],
        ["1", "-"],
        ["16", "64"],
        ["16", str(choices[16].solver.coarsening)],
    ]
    assert ["auto" in line for line in rows] == [False, True, False, True]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_exact_solver_is_measured_on_several_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "measured.json"
    arguments = ["--size", "64,2,3,8", "--ranks", "3", "--levels", "1", "--repeats", "1", "--json", str(path)]
    assert main(["bench", "scaling", *arguments, "--dtype", "float64"]) == 0
    [point] = json.loads(path.read_text())["points"]
    assert (point["levels"], point["idle_ranks"]) == (1, 0)
    assert point["gradient_error"] < 1e-12
    assert "MGRIT with one level, which is the serial solver" in capsys.readouterr().out


def test_options_beside_auto_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "measured.json"
    arguments = ["--size", "4096,1,3,8", "--ranks", "16", "--coarsening", "auto", "--repeats", "1"]
    more = ["--relaxation", "F", "--forward-iterations", "2", "--json", str(path)]
    assert main(["bench", "scaling", *arguments, *more]) == 0
    chosen = solver_from_dict(json.loads(path.read_text())["chosen"]["16"])
    assert chosen.coarsening == choose(4096, 1, 8, 16, 3).solver.coarsening
    assert (chosen.relaxation, chosen.forward_iterations, chosen.backward_iterations) == ("F", 2, 1)


def test_options_that_the_choice_has_no_use_for_are_told(
    tmp_path: Path, write_arrays: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", str(write_arrays()), "--epochs", "1", "--hidden-size", "4"]
    auto = ["--solver", "mgrit", "--coarsening", "auto"]
    assert main([*arguments, "--output", str(tmp_path / "plain"), *auto]) == 0
    assert "no use for" not in capsys.readouterr().err
    assert (
        main([*arguments, "--output", str(tmp_path / "run"), *auto, "--levels", "3", "--relaxation", "F"])
        == 0
    )
    said = capsys.readouterr().err
    assert (
        "the serial solver was chosen, which has no use for --levels, --relaxation; give --coarsening" in said
    )


def test_parallel_chooses_for_each_size(tmp_path: Path, run_main: RunMain) -> None:
    path = tmp_path / "parallel.json"
    done = run_main(
        2,
        *("bench", "parallel", "--size", "4096,1,3,8", "64,2,3,8"),
        *("--coarsening", "auto", "--repeats", "1", "--json", str(path)),
    )
    assert done.returncode == 0, done.stderr
    for row in json.loads(path.read_text())["sizes"]:
        choice = choose(row["T"], row["B"], row["H"], 2, row["I"])
        assert str(choice) in done.stdout
        assert solver_from_dict(row["solver"]) == choice.solver


def test_training_tells_its_choice(
    tmp_path: Path, write_arrays: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = write_arrays(), tmp_path / "run"
    arguments = ["train", str(data), "--output", str(run), "--epochs", "1", "--hidden-size", "4"]
    assert main([*arguments, "--solver", "mgrit", "--coarsening", "auto", "--memory", "3"]) == 0
    # Fewer sequences than the batch was allowed to have.
    assert str(choose(6, 12, 4, 1, 2, memory=3)) in capsys.readouterr().out
    assert json.loads((run / "options.json").read_text())["solver"] == {"solver": "serial"}
    assert main(["evaluate", str(run), str(data)]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bench", "scaling", "--coarsening", "soon"], "'soon' is not a whole number from 1"),
        (["bench", "scaling", "--coarsening", "64", "soon"], "nor auto"),
        (["bench", "serial", "--coarsening", "auto"], "'auto' is not a whole number"),
        (["bench", "scaling", "--memory", "9"], "--memory is for --coarsening auto"),
        (["bench", "scaling", "--coarsening", "auto", "--memory", "0"], "'0' is not a positive number"),
    ],
)
def test_wrong_options_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    try:
        code = main(arguments)
    except SystemExit as leaving:
        code = int(str(leaving.code))
    assert code == 2
    assert message in capsys.readouterr().err


def test_auto_belongs_to_mgrit(
    tmp_path: Path, write_arrays: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["train", str(write_arrays()), "--output", str(tmp_path / "run"), "--coarsening", "auto"]) == 2
    )
    assert "--coarsening is for --solver mgrit; add that, or leave it out" in capsys.readouterr().err
