"""A run brought back in Python: what it was asked for, what came of it, what it makes of data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import seqbraid as sb
from seqbraid.cli.main import main
from seqbraid.comm import SimulatedWorld
from seqbraid.data.dataset import open_dataset
from seqbraid.errors import DataError
from seqbraid.train import Run

T, F = 12, 2


def make_data(path: Path, seed: int = 0, **changes: Any) -> Path:
    random = np.random.default_rng(seed)
    arrays: dict[str, Any] = {
        "x_train": random.normal(size=(12, T, F)),
        "y_train": np.arange(12) % 3,
        "x_test": random.normal(size=(6, T, F)),
        "y_test": np.arange(6) % 3,
        "label": np.array(["hop", "sit", "spin"]),
    }
    np.savez(path, **(arrays | changes))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data") / "data.npz")


@pytest.fixture(scope="module")
def run(data: Path) -> Run:
    """Return a run of two epochs with MGRIT, whose sequences are padded with zeros."""
    words = ["--epochs", "2", "--hidden-size", "4", "--solver", "mgrit", "--pad", "zeros", "--lr", "0.01"]
    assert main(["train", str(data), "--output", str(data.parent / "run"), *words]) == 0
    return sb.load_run(data.parent / "run")


def test_a_run_tells_what_it_was_asked_for_and_what_came_of_it(run: Run, data: Path) -> None:
    assert run.options["data"] == str(data)
    assert run.class_names == ["hop", "sit", "spin"]
    assert [line["epoch"] for line in run.metrics] == [1, 2]
    assert run.solver == sb.MGRIT(coarsening=4, coarse="frozen")
    assert not run.model.training


def test_an_evaluation_is_that_of_the_training_and_of_the_command(
    run: Run, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run.evaluate(data)
    assert found.accuracy == run.metrics[-1]["test_accuracy"]
    assert found.loss == run.metrics[-1]["test_loss"]
    assert run.evaluate(open_dataset(data)).loss == found.loss
    serial = run.evaluate(data, solver=sb.Serial())
    assert serial.residual == 0.0 < found.residual
    both = run.evaluate_both_ways(data)
    assert (both["mgrit"].loss, both["serial"].loss) == (found.loss, serial.loss)
    assert run.evaluate(data, part="train").sequences == 12
    capsys.readouterr()
    assert main(["evaluate", str(run.folder), str(data)]) == 0
    assert f"accuracy {found.accuracy:.4f}  loss {found.loss:.4f}" in capsys.readouterr().out


def test_ranks_evaluate_together(run: Run, data: Path) -> None:
    alone = run.evaluate(data)

    def on_rank(comm: object) -> float:
        return sb.load_run(run.folder).evaluate(data, comm=comm).loss

    assert SimulatedWorld(2).run(on_rank) == pytest.approx([alone.loss] * 2)


def test_predictions_are_the_models_on_standardised_and_padded_features(run: Run, data: Path) -> None:
    sequences = np.load(data)["x_test"]
    found = run.predict(list(sequences))
    with torch.no_grad():
        x = run.standardise(torch.from_numpy(sequences).float())
        expected = run.model(x.transpose(0, 1)).softmax(dim=1).numpy()
    np.testing.assert_allclose([each.probabilities for each in found], expected, rtol=1e-5)
    recognised = sum(each.class_name == run.class_names[i % 3] for i, each in enumerate(found))
    assert recognised / 6 == run.evaluate(data, solver=sb.Serial()).accuracy
    assert found[0].top(2)[0] == (found[0].class_name, pytest.approx(found[0].probabilities.max()))
    assert sorted(name for name, _ in found[0].top(9)) == run.class_names


def test_one_sequence_has_one_prediction_and_is_padded_as_trained(run: Run, data: Path) -> None:
    sequence = np.load(data)["x_test"][0]
    short = run.predict(sequence[:5])
    mean = run.standardise.mean.numpy()
    filled = np.concatenate([sequence[:5], np.tile(mean, (T - 5, 1))])
    np.testing.assert_allclose(short.probabilities, run.predict(filled).probabilities, rtol=1e-5)
    tensor = run.predict(torch.from_numpy(sequence[:5]))
    np.testing.assert_array_equal(tensor.probabilities, short.probabilities)


@pytest.mark.parametrize(
    ("sequences", "message"),
    [
        (np.zeros((3, F + 1)), r"the sequence is float64 \(3, 3\); expected real numbers of shape \(T, 2\)"),
        (np.zeros((T + 1, F)), "the sequence has 13 steps, .* padded to 12; cut it to at most 12"),
        (np.full((3, F), np.nan), "the sequence holds nan"),
        ([np.zeros((3, F)), np.zeros(3)], r"sequence 1 is float64 \(3,\)"),
    ],
)
def test_sequences_of_another_form_are_refused(run: Run, sequences: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        run.predict(sequences)


def test_what_does_not_fit_the_run_is_refused(run: Run, data: Path, tmp_path: Path) -> None:
    other = make_data(tmp_path / "other.npz", label=np.array(["a", "b", "c"]))
    with pytest.raises(DataError, match="has the classes a, b, c, but"):
        run.evaluate(other)
    with pytest.raises(DataError, match="the data set has the classes a, b, c, but"):
        run.evaluate(open_dataset(other))
    longer = make_data(
        tmp_path / "longer.npz", x_test=np.zeros((6, T + 1, F)), x_train=np.ones((12, T + 1, F))
    )
    with pytest.raises(DataError, match=r"has room for 13 steps, .* or take `pad=lengths`"):
        run.evaluate(longer)
    assert run.evaluate(longer, pad="lengths").sequences == 6
    with pytest.raises(ValueError, match="pad is 'zero'; expected None or one of"):
        run.evaluate(data, pad="zero")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="which is 'first'"):
        sb.load_run(run.folder, "first")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="is not a run folder"):
        sb.load_run(tmp_path)


def test_weights_that_do_not_belong_to_the_options_are_found_when_they_are_read(
    run: Run, tmp_path: Path
) -> None:
    options = json.loads((run.folder / "options.json").read_text())
    options["model"]["hidden_size"] = 5
    (tmp_path / "options.json").write_text(json.dumps(options))
    (tmp_path / "last.pt").write_bytes((run.folder / "last.pt").read_bytes())
    changed = sb.load_run(tmp_path)
    with pytest.raises(DataError, match=r"options.json and last.pt do not belong together .*size mismatch"):
        changed.load()
