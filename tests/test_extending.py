"""The code of docs/extending.md, on one process and on ranks."""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch
from reference import relative_error

import seqbraid as sb

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCKS = {name: code for code, name in re.findall(r"```python\n(# ([\w.]+).*?)```", TEXT, re.DOTALL)}


def run(*names):
    """Execute blocks one after the other, as one module; return what they define, and as `said` print."""
    namespace = {"__name__": "extending"}
    with contextlib.redirect_stdout(io.StringIO()) as output:
        for name in names:
            exec(compile(BLOCKS[name], name, "exec"), namespace)
    return {**namespace, "said": output.getvalue()}


def lines(name):
    code = BLOCKS[name]
    return [line for line in code[code.index("class ") :].splitlines() if line.strip()]


def test_every_block_is_run_by_a_test():
    assert set(BLOCKS) == {
        "leaky.py",
        "train_leaky.py",
        "frozen_leaky.py",
        "compare_leaky.py",
        "blocks.py",
        "train_blocks.py",
    }
    assert len(lines("leaky.py")) <= 25


@pytest.mark.on_ranks(1, 2, 4)
def test_a_users_cell_is_trained_on_ranks(world):
    found = run("leaky.py", "train_leaky.py")
    layer, x = found["layer"], found["x"]
    assert "residuals" in found["said"]
    # Autograd through the steps one by one.
    cell = found["LeakyRNN"](3, 16)
    leaves = {name: value.detach().requires_grad_() for name, value in layer.named_parameters()}
    parameters = {name.removesuffix("_l0"): value for name, value in leaves.items()}
    state = (torch.zeros(4, 16),)
    for each in x:
        state = cell.step(each, state, parameters)
    state[0].square().sum().backward()
    assert relative_error(found["h_n"][0], state[0]) < 1e-4
    for name, parameter in layer.named_parameters():
        assert relative_error(parameter.grad, leaves[name].grad) < 1e-3, name


def test_a_coarse_propagator_that_knows_its_cell_converges_faster():
    found = run("leaky.py", "frozen_leaky.py", "compare_leaky.py")
    assert "frozen" in found["said"]
    factors = found["factors"]
    assert factors["frozen"] < factors["relaxation"] / 2 < 0.5


def test_a_coarse_propagator_leaves_a_state_that_takes_no_step():
    found = run("leaky.py", "frozen_leaky.py")
    cell = found["FrozenLeakyRNN"](3, 4)
    parameters = {name: torch.randn(shape) for name, shape in cell.parameter_shapes().items()}
    state, x = (torch.randn(2, 4),), torch.randn(2, 3)
    for propagate in cell.coarse_propagators().values():
        torch.testing.assert_close(propagate(x, state, parameters, torch.zeros(2, 1)), state)


@pytest.mark.on_ranks(1, 2, 3)
@pytest.mark.parametrize("solver", [sb.MGRIT(coarsening=4, tolerance=1e-12), sb.Serial()])
def test_a_users_model_is_differentiated_on_ranks(world, solver):
    found = run("blocks.py", "train_blocks.py")
    assert float(found["said"]) < 1e-10
    torch.manual_seed(0)
    W, u = torch.randn(24, 6, 6, dtype=torch.float64), torch.randn(5, 6, dtype=torch.float64)

    def gradients(comm):
        held = sb.local_slice(24, comm, 4)
        own, start = W[held].requires_grad_(), u.clone().requires_grad_()
        steps = [24] if comm is None else comm.allgather(held.stop - held.start)
        end = found["forward"](start, own, steps, solver, comm)
        return [end.detach(), *torch.autograd.grad(end.square().sum(), [start, own])], held

    (end, of_start, of_own), held = gradients(world)
    (truth, of_u, of_W), _ = gradients(None)
    assert relative_error(end, truth) < 1e-10
    assert relative_error(of_start, of_u) < 1e-10
    assert relative_error(of_own, of_W[held]) < 1e-10
