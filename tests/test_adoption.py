"""The worked example of docs/adoption.md: page and scripts agree, and the scripts do what the page says."""

from __future__ import annotations

import copy
import difflib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from launching import ROOT, run_ranks
from reference import relative_error
from shared_ranks import SharedRanks
from torch import nn
from torch.nn.functional import cross_entropy

import seqbraid as sb

PAGE = (ROOT / "docs" / "adoption.md").read_text(encoding="utf-8")
PLAIN, PARALLEL = (ROOT / "docs" / "adoption" / name for name in ("plain.py", "parallel.py"))
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
FEATURES, HIDDEN, CLASSES = 2, 5, 4
Gradients = list[torch.Tensor]
LINE = re.compile(r"epoch (\d+)  loss (\d\.\d{6})  test accuracy (\d\.\d{3})\n")


def epochs(printed: str) -> dict[str, list[float]]:
    """Return loss and accuracy by epoch; nothing else may be printed."""
    assert LINE.sub("", printed) == ""
    found = LINE.findall(printed)
    assert [int(epoch) for epoch, _, _ in found] == [1, 2, 3]
    return {"loss": [float(loss) for _, loss, _ in found], "accuracy": [float(each) for _, _, each in found]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The scripts save their weights where they are started."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the plain script prints, and the weights that it saves."""
    place = tmp_path_factory.mktemp("plain")
    command = [sys.executable, str(PLAIN)]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return {**epochs(done.stdout), "weights": torch.load(place / "classifier.pt", weights_only=True)}


def test_the_diff_of_the_page_is_that_of_the_scripts() -> None:
    before, after = (path.read_text(encoding="utf-8").splitlines(keepends=True) for path in (PLAIN, PARALLEL))
    diff = "".join(difflib.unified_diff(before, after, PLAIN.name, PARALLEL.name))
    assert re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL) == [diff]


def test_the_plain_script_learns_and_prints_what_the_page_shows(plain: dict[str, Any]) -> None:
    assert plain["accuracy"][0] < 0.5 < 0.95 < plain["accuracy"][-1]
    shown = epochs(re.findall(r"```\n(epoch.*?)```", PAGE, re.DOTALL)[0])
    assert plain["loss"] == pytest.approx(shown["loss"], rel=0.01)  # rounding differs among machines


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_parallel_script_trains_alike_with_the_serial_solver(
    ranks: int, plain: dict[str, Any], folder: Path, shared_ranks: Callable[[int], SharedRanks]
) -> None:
    text = PARALLEL.read_text(encoding="utf-8")
    serial, replaced = re.subn(r"^solver = .*$", "solver = sb.Serial()", text, flags=re.MULTILINE)
    assert replaced == 1
    (folder / "serial.py").write_text(serial, encoding="utf-8")
    found = epochs(shared_ranks(ranks).script(folder / "serial.py").stdout)
    assert found["loss"] == pytest.approx(plain["loss"], rel=1e-4)
    weights = torch.load(folder / "classifier.pt", weights_only=True)
    assert weights.keys() == plain["weights"].keys()
    for name, value in plain["weights"].items():
        assert relative_error(weights[name], value) < 1e-3, name


def test_the_parallel_script_trains_closely_with_mgrit(plain: dict[str, Any]) -> None:
    done = run_ranks(2, "-m", "mpi4py", str(PARALLEL))
    assert done.returncode == 0, done.stdout + done.stderr
    found = epochs(done.stdout)
    assert found["loss"] == pytest.approx(plain["loss"], abs=0.01)
    assert found["loss"] != plain["loss"]  # it is MGRIT that ran
    assert found["accuracy"][-1] > 0.95
    shown = epochs(re.findall(r"```\n(epoch.*?)```", PAGE, re.DOTALL)[1])
    assert found["loss"] == pytest.approx(shown["loss"], abs=0.01)


def run_snippet(snippet: str, ranks: int, head: nn.Module, **names: Any) -> list[tuple[float, Gradients]]:
    """Run lines of the page, which find `names`, on simulated ranks; return each one's loss and gradients."""

    def on_a_rank(comm: object) -> tuple[float, Gradients]:
        found: dict[str, Any] = {"sb": sb, "cross_entropy": cross_entropy, **names, "comm": comm}
        found |= {"head": copy.deepcopy(head), "solver": sb.Serial()}
        if "gru = " not in snippet:
            found["gru"] = sb.GRU(FEATURES, HIDDEN, solver=found["solver"], comm=comm)
            found["gru"].load_state_dict(names["weights"])
        exec(snippet.replace("comm=grid)", "comm=grid); gru.load_state_dict(weights)"), found)
        parameters = [*found["gru"].parameters(), *found["head"].parameters()]
        return found["loss"].item(), [each.grad for each in parameters]

    return sb.SimulatedWorld(ranks).run(on_a_rank)


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double")
def test_the_pages_head_on_every_step_gets_the_gradients_of_the_whole_sequence() -> None:
    torch.manual_seed(0)
    x, labels = torch.randn(37, 3, FEATURES), torch.randint(CLASSES, (37, 3))
    gru, head = nn.GRU(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
    loss = cross_entropy(head(gru(x)[0]).flatten(0, 1), labels.flatten())
    expected = torch.autograd.grad(loss, [*gru.parameters(), *head.parameters()])
    ranks = run_snippet(SNIPPETS[0], 3, head, x=x, labels=labels, T=37, weights=gru.state_dict())
    assert sum(part for part, _ in ranks) == pytest.approx(loss.item())
    assert all(
        relative_error(*pair) < 1e-12 for _, found in ranks for pair in zip(found, expected, strict=True)
    )


@pytest.mark.usefixtures("double")
def test_the_pages_grid_gets_the_gradients_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    x, labels, batch = (
        torch.randn(37, 9, FEATURES),
        torch.randint(CLASSES, (9,)),
        torch.tensor([7, 0, 3, 4, 8]),
    )
    gru, head = nn.GRU(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
    loss = cross_entropy(head(gru(x[:, batch])[1][-1]), labels[batch])
    expected = torch.autograd.grad(loss, [*gru.parameters(), *head.parameters()])
    names = {"x": x, "labels": labels, "batch": batch, "T": 37, "features": FEATURES, "hidden": HIDDEN}
    ranks = run_snippet(SNIPPETS[1], 6, head, **names, weights=gru.state_dict())
    assert sum(part for part, _ in ranks) == pytest.approx(
        3 * loss.item()
    )  # each group's part on its 3 ranks
    assert all(
        relative_error(*pair) < 1e-12 for _, found in ranks for pair in zip(found, expected, strict=True)
    )
