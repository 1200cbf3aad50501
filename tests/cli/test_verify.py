import re

import pytest

from seqbraid.cli.main import main

SMALL = ["--steps", "64", "--batch-size", "2", "--hidden-size", "8", "--coarsening", "8"]


def errors_of_states(text, propagator):
    return [float(value) for value in re.findall(rf"^{propagator}\s+\d+\s+(\S+)", text, re.MULTILINE)]


def test_the_table_shows_convergence_and_the_plot_is_drawn(tmp_path, capsys):
    plot = tmp_path / "errors.png"
    assert main(["verify", *SMALL, "--iterations", "4", "--ranks", "3", "--plot", str(plot)]) == 0
    shown = capsys.readouterr().out
    for name in (
        "frozen/mean/scaled",
        "frozen/point/scaled",
        "implicit/mean/scaled",
        "implicit/point/scaled",
    ):
        errors = errors_of_states(shown, name)
        assert len(errors) == 5
        assert errors[3] < errors[1] < errors[0]
        assert errors[4] < 1e-13  # 8 intervals: four FCF iterations are exact
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [plot]


def test_real_ranks_give_the_table_of_simulated_ones(capsys, run_main):
    arguments = ["verify", *SMALL, "--iterations", "2", "--coarse", "frozen", "classic/mean/unit"]
    assert main([*arguments, "--ranks", "2"]) == 0
    simulated = capsys.readouterr().out
    done = run_main(2, *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.replace("ranks: 2", "ranks: 2 simulated") == simulated


def test_a_diverging_propagator_is_marked(capsys):
    arguments = ["--steps", "512", "--batch-size", "4", "--hidden-size", "32", "--iterations", "4"]
    assert main(["verify", *arguments, "--coarse", "classic/mean/unit", "frozen"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("classic/mean/unit") and line.endswith("diverged") for line in lines)
    assert not any(line.startswith("frozen") and line.endswith("diverged") for line in lines)


def test_an_unknown_propagator_is_named(capsys):
    with pytest.raises(SystemExit):
        main(["verify", "--coarse", "explicit/mean"])
    assert (
        "'explicit/mean' is not (frozen|implicit|classic)[/(mean|point)][/(scaled|unit)]"
        in capsys.readouterr().err
    )
