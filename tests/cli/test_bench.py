from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shared_ranks import RunMain

from preprocess.figures import draw_clip, write_video
from seqbraid import MGRIT, Serial
from seqbraid.bench import Layer, Size, forward_backward, gradient_of, relative_error
from seqbraid.cli.main import main

TINY = ["--repeats", "2", "--coarsening", "4"]
TIMES = {"median", "least", "seconds"}


def measure(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a benchmark with --json and return what it wrote."""
    path = tmp_path / "measured.json"
    assert main(["bench", *arguments, "--json", str(path)]) == 0
    assert list(tmp_path.glob("measured.json*")) == [path]
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def refuse(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run a command that must fail as a usage error, and return the one line it says."""
    capsys.readouterr()
    try:
        code = main(["bench", *map(str, arguments)])
    except SystemExit as leaving:
        code = int(str(leaving.code))
    said = capsys.readouterr()
    assert code == 2
    [line] = said.err.splitlines()
    assert line.startswith("seqbraid bench")
    assert said.out == ""
    return line


def gradient_error(size: Size, solver: MGRIT, **options: Any) -> float:
    """Return the error of MGRIT's weight gradients in this process."""
    layer = Layer(size, **options)
    exact, found = layer.module(Serial()), layer.module(solver)
    for module in (exact, found):
        forward_backward(module, layer.series)
    return relative_error(gradient_of(found), gradient_of(exact))


def test_serial_measures_every_size_and_what_is_added(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "serial.png"
    extras = ["--lengths", "--doubling", "8,40", "--profile", "--plot", str(plot)]
    record = measure(tmp_path, "serial", "--size", "24,1,2,3", "16,3,4,5", *TINY, *extras)
    assert record["benchmark"] == "serial"
    assert (record["threads"], record["dtype"], record["repeats"]) == (1, "float32", 2)
    assert record["solver"]["coarsening"] == 4
    assert [(row["T"], row["B"], row["I"], row["H"]) for row in record["sizes"]] == [
        (24, 1, 2, 3),
        (16, 3, 4, 5),
    ]
    for row in record["sizes"]:
        assert set(row["times"]) == {"torch", "serial", "mgrit", "jax"}
        for name in ("torch", "serial", "mgrit"):
            assert set(row["times"][name]) == TIMES
            assert len(row["times"][name]["seconds"]) == 2
            microseconds = 1e6 * row["times"][name]["median"] / row["T"]
            assert row["microseconds_per_step"][name] == pytest.approx(microseconds)
        ratio = row["times"]["torch"]["median"] / row["times"]["mgrit"]["median"]
        assert row["torch_over"]["mgrit"] == pytest.approx(ratio)
        floor = 1e6 * row["flops_per_step"] / record["product_flops_per_second"]
        assert row["floor_microseconds_per_step"] == pytest.approx(floor)
    assert record["sizes"][0]["flops_per_step"] == 2 * 1 * 9 * (2 + 3 + 3 + (3 + 2))
    assert [row["T"] for row in record["lengths"]] == [24, 16]
    assert record["lengths"][0]["valid_share"] == 1.0  # one sequence, which has full length
    assert [row["T"] for row in record["doubling"]] == [8, 16, 32]
    assert record["doubling"][0]["factors"] == {"serial": None, "mgrit": None}
    assert len(record["profiles"]) == 4
    assert all(0 < len(lines) <= 15 for lines in record["profiles"].values())
    said = capsys.readouterr().out
    assert "1 thread of" in said
    assert "medians of 2 repeats" in said
    assert "where a pass of T,B,I,H = 16,3,4,5, MGRIT() spends its time" in said
    if record["sizes"][0]["times"]["jax"] is None:
        assert said.count("not installed") == 2
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_scaling_shows_for_each_number_of_ranks_the_fastest_within_the_bound(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "scaling.png"
    arguments = ["--size", "64,2,3,8", "--ranks", "1", "2", "9", "--coarsening", "4", "16", "--repeats", "2"]
    setting = ["--dtype", "float64", "--coarse", "implicit"]
    size = Size(64, 2, 3, 8)
    errors = {
        coarsening: gradient_error(
            size, MGRIT(coarsening=coarsening, coarse="implicit"), gate_bias=4.0, dtype=torch.float64
        )
        for coarsening in (4, 16)
    }
    # A bound that the one coarsening meets and the other does not.
    better, worse = sorted(errors, key=lambda coarsening: errors[coarsening])
    bound = (errors[better] * errors[worse]) ** 0.5
    record = measure(
        tmp_path, "scaling", *arguments, *setting, "--error-bound", str(bound), "--plot", str(plot)
    )
    assert record["simulated"] is True
    assert [(point["ranks"], point["coarsening"]) for point in record["points"]] == [
        (ranks, coarsening) for ranks in (1, 2, 9) for coarsening in (4, 16)
    ]
    for point in record["points"]:
        assert point["gradient_error"] == pytest.approx(errors[point["coarsening"]], rel=1e-6)
        assert point["fastest_within_bound"] is (point["coarsening"] == better)
        assert set(point["serial"]) == set(point["times"]) == TIMES
        assert point["speedup"] == pytest.approx(point["serial"]["median"] / point["times"]["median"])
        assert point["idle_ranks"] == (5 if (point["ranks"], point["coarsening"]) == (9, 16) else 0)
    said = capsys.readouterr().out
    assert said.startswith("SIMULATED")
    rows = [line.split()[:2] for line in said.splitlines() if line[:5].strip().isdigit()]
    assert rows == [["1", str(better)], ["2", str(better)], ["9", str(better)]]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_scaling_shows_the_least_error_where_none_is_within_the_bound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = ["--size", "64,2,3,8", "--ranks", "3", "--coarsening", "4", "16", "--repeats", "1"]
    assert main(["bench", "scaling", *arguments, "--error-bound", "1e-12"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:5].strip() == "3"]
    assert len(lines) == 1
    assert lines[0].endswith("error above 1e-12")
    assert main(["bench", "scaling", *arguments, "--error-bound", "1e-12", "--all"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line[:5].strip() == "3"]
    assert [line.split()[1] for line in lines] == ["4", "16"]


def test_parallel_measures_the_ranks_of_a_job(tmp_path: Path, run_main: RunMain) -> None:
    path = tmp_path / "parallel.json"
    arguments = ["--size", "64,2,3,8", "24,1,2,3", *TINY, "--dtype", "float64", "--update-gate-bias", "2"]
    done = run_main(
        2,
        *("bench", "parallel", "--simulate", "--ranks", "2"),
        *arguments,
        *("--json", str(path)),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("milliseconds of a forward and backward pass") == 1
    record = json.loads(path.read_text())
    assert record["ranks"] == 2
    assert [row["T"] for row in record["sizes"]] == [64, 24]
    for row in record["sizes"]:
        size = Size(row["T"], row["B"], row["I"], row["H"])
        error = gradient_error(size, MGRIT(coarsening=4), gate_bias=2.0, dtype=torch.float64)
        assert row["gradient_error"] == pytest.approx(error, rel=1e-6)
        assert 0 < row["forward_residual"] < 1
        assert 0 < row["backward_residual"] < 1
        assert len(row["communication_share"]) == len(row["mgrit_of_each_rank"]) == 2
        assert all(0 < share < 1 for share in row["communication_share"])
        for times in (row["serial"], row["mgrit"], row["simulated"]):
            assert len(times["seconds"]) == 2
        assert row["mgrit"]["median"] == max(times["median"] for times in row["mgrit_of_each_rank"])
        assert row["speedup"] == pytest.approx(row["serial"]["median"] / row["mgrit"]["median"])
        ratio = row["simulated"]["median"] / row["mgrit"]["median"]
        assert row["simulated_over_measured"] == pytest.approx(ratio)


def test_parallel_says_how_it_is_launched(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "launch it as `mpiexec -n 2 seqbraid bench parallel`" in refuse(capsys, "parallel")
    assert "`mpiexec -n 3 seqbraid bench parallel`" in refuse(capsys, "parallel", "--ranks", "3")
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    assert "--ranks 3, but the job has 2 ranks" in refuse(capsys, "parallel", "--ranks", "3")
    for benchmark in ("serial", "scaling", "features"):
        assert f"bench {benchmark} measures one process, but 2 ranks" in refuse(capsys, benchmark)


def test_features_are_measured_on_a_drawn_clip_and_on_those_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--backbone", "squeezenet1_1", "--layer", "pool", "--frames", "6", "--size", "32"]
    record = measure(tmp_path, "features", *small, "--repeats", "1", "--plot", str(tmp_path / "f.png"))
    assert record["clips"] == 1
    assert 4 <= record["frames_in_all"] <= 6
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")

    videos = tmp_path / "videos"
    frames = draw_clip(np.random.default_rng(0), "rise", 12, 32)
    for path, length in (("a/0.avi", 8), ("a/1.avi", 8), ("b/0.avi", 5)):
        (videos / path).parent.mkdir(parents=True, exist_ok=True)
        write_video(videos / path, frames[:length])
    # Evenly picked, so one of each class, and at most six frames of a clip.
    record = measure(tmp_path, "features", str(videos), *small, "--clips", "2", "--repeats", "2")
    assert (record["clips"], record["frames_in_all"]) == (2, 11)
    assert set(record["times"]) == {"plain loop", "decode", "network", "pipeline"}
    for name, times in record["times"].items():
        assert len(times["seconds"]) == 2
        # The network is timed on whole batches, here one of 8.
        frames = 8 if name == "network" else 11
        assert record["frames_per_second"][name] == pytest.approx(frames / times["median"])
    assert record["operations_a_frame"] > 1e6
    assert f"2 of 3 clips of {videos}, 11 frames in all" in capsys.readouterr().out

    assert f"{tmp_path / 'none'} is not a folder" in refuse(capsys, "features", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "empty holds no videos (.avi" in refuse(capsys, "features", tmp_path / "empty")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serial", "--size", "8,1,9"], "'8,1,9' is not a size; expected T,B,I,H"),
        (["serial", "--size", "8,1,9,x"], "'8,1,9,x' is not a size; expected T,B,I,H"),
        (["serial", "--size", "8,1,9,4", "8,0,9,4"], "'8,0,9,4' is not a size; expected T,B,I,H"),
        (["scaling", "--size", "8,1,9,4,2"], "'8,1,9,4,2' is not a size; expected T,B,I,H"),
        (["serial", "--doubling", "64,8"], "'64,8' is not FROM,TO"),
        (["serial", "--repeats", "0"], "--repeats: '0' is not a whole number from 1"),
        (["serial", "--coarsening", "0"], "--coarsening: '0' is not a whole number from 1"),
        (["scaling", "--ranks", "2", "0"], "--ranks: '0' is not a whole number from 1"),
        (["scaling", "--latency", "-1"], "--latency: '-1' is not a number from 0"),
        (["scaling", "--bandwidth", "0"], "--bandwidth: '0' is not a positive number"),
        (["scaling", "--update-gate-bias", "nan"], "--update-gate-bias: 'nan' is not a number"),
        (["features", "--size", "8"], "--size: '8' is not a whole number from 32"),
        (["features", "--backbone", "resnet99"], "unknown backbone 'resnet99'"),
        (["serial", "--json", "/nowhere/x.json"], "--json /nowhere/x.json: there is no folder /nowhere"),
        (["scaling", "--plot", "/nowhere/x.png"], "--plot /nowhere/x.png: there is no folder /nowhere"),
        (["scaling", "--plot", "x.abc"], "--plot x.abc: expected a name that ends in"),
        (["scaling", "--json", "."], "--json . is a folder; name a file"),
    ],
)
def test_wrong_options_are_named(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert message in refuse(capsys, *arguments)


def test_a_missing_matplotlib_is_told_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("seqbraid.plots.figure.find_spec", lambda name: None)
    line = refuse(capsys, "scaling", "--plot", tmp_path / "scaling.png")
    assert "--plot needs matplotlib; pip install matplotlib" in line


def test_a_solve_that_diverges_ends_a_serial_benchmark_and_is_marked_in_a_scaling_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = ["--size", "512,4,9,32", "--coarse", "classic", "--coarse-step", "unit", "--coarsening", "16"]
    rest = ["--forward-iterations", "4", "--update-gate-bias", "4", "--repeats", "1"]
    assert main(["bench", "serial", *bad, *rest]) == 3
    said = capsys.readouterr()
    assert "seqbraid bench: error: GRU layer 0: the forward solve diverged" in said.err
    assert main(["bench", "scaling", *bad, *rest, "--ranks", "2"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line[:5].strip() == "2"]
    assert line.endswith("diverged")
