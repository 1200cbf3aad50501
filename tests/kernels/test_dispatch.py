import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from seqbraid.cells import GRUCell
from seqbraid.errors import OptionsError
from seqbraid.kernels import active, dispatch, gru_kernel, sweeps_for, why_plain
from seqbraid.kernels.fused import FusedSweeps
from seqbraid.kernels.generic import GenericSweeps
from seqbraid.kernels.gru import GRUSweeps
from seqbraid.kernels.plain import PlainSweeps

ROOT = Path(__file__).resolve().parents[2]

# A layer beside torch.nn.GRU; prints which kernels served and whether the results agree.
LAYER = """
import sys
import torch
import seqbraid as sb
from seqbraid.kernels import active, why_plain

assert "numba" not in sys.modules or sys.modules["numba"] is None, "Numba is imported before it is needed"
torch.manual_seed(0)
exact = sb.MGRIT(coarsening=3, forward_iterations=9, backward_iterations=9)
torchs = torch.nn.GRU(3, 4, dtype=torch.float64)
x = torch.randn(11, 2, 3, dtype=torch.float64)
truth = torchs(x)[0]
truth.square().sum().backward()
for solver in (sb.Serial(), exact):
    layer = sb.GRU(3, 4, solver=solver, dtype=torch.float64)
    layer.load_state_dict(torchs.state_dict())
    output = layer(x)[0]
    output.square().sum().backward()
    assert torch.allclose(output, truth, rtol=0, atol=1e-12)
    for one, other in zip(layer.parameters(), torchs.parameters()):
        assert torch.allclose(one.grad, other.grad, rtol=0, atol=1e-11)
print(active(), "|", why_plain())
"""


def run(program, *path, **variables):
    environment = {**os.environ, **variables}
    environment["PYTHONPATH"] = os.pathsep.join([*map(str, path), str(ROOT)])
    if "SEQBRAID_KERNELS" not in variables:
        environment.pop("SEQBRAID_KERNELS", None)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def wish(monkeypatch):
    monkeypatch.delenv("SEQBRAID_KERNELS", raising=False)
    return lambda value: monkeypatch.setenv("SEQBRAID_KERNELS", value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("value", "kernel", "kind"),
    [
        (None, "fused", FusedSweeps),
        ("", "fused", FusedSweeps),
        ("fused", "fused", FusedSweeps),
        ("plain", "plain", PlainSweeps),
    ],
)
def test_the_environment_chooses(wish, value, kernel, kind, dtype):
    if value is not None:
        wish(value)
    assert active("cpu", dtype) == active(torch.device("cpu"), dtype) == kernel
    assert isinstance(gru_kernel(torch.zeros(6, 2, dtype=dtype), None), kind)
    assert bool(why_plain("cpu", dtype)) == (kernel == "plain")


@pytest.mark.parametrize("value", ["nonsense", "FUSED", "plain "])
def test_another_wish_is_an_error_that_names_it(wish, value):
    wish(value)
    for ask in (active, why_plain, lambda: gru_kernel(torch.zeros(6, 2), None)):
        with pytest.raises(OptionsError, match=f"SEQBRAID_KERNELS is '{value}'; expected one of"):
            ask()


def test_other_devices_and_dtypes_are_served_plainly(wish):
    for value in ("", "fused"):
        wish(value)
        assert active("meta") == active("cuda:3") == "plain"
        assert "CPU" in why_plain("meta")
        for dtype in (torch.float16, torch.bfloat16):
            assert active("cpu", dtype) == "plain"
            assert "float32" in why_plain("cpu", dtype)
            assert isinstance(gru_kernel(torch.zeros(6, 2, dtype=dtype), None), PlainSweeps)
        assert isinstance(gru_kernel(torch.zeros(6, 2, device="meta"), None), PlainSweeps)


ABSENT = "import sys; sys.modules['numba'] = None" + LAYER


def test_without_numba_everything_works_plainly():
    done = run(ABSENT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plain | Numba cannot be imported (")
    assert "pip install numba" in done.stdout


def test_a_broken_numba_is_as_good_as_none(tmp_path):
    (tmp_path / "numba.py").write_text("raise OSError('libllvmlite.so is missing')")
    done = run(LAYER, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("plain | Numba cannot be imported (libllvmlite.so is missing)")


def test_numba_that_does_not_compile_is_not_used():
    done = run(LAYER, NUMBA_DISABLE_JIT="1")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "plain | NUMBA_DISABLE_JIT is set\n"


def test_fused_kernels_that_cannot_be_had_are_an_error(wish, monkeypatch):
    monkeypatch.setattr(
        dispatch, "_why_not_compiled", lambda: "Numba cannot be imported (none); pip install numba"
    )
    assert active() == "plain"
    wish("plain")
    assert active() == "plain"
    wish("fused")
    with pytest.raises(OptionsError, match="asks for the fused kernels, but Numba cannot be imported"):
        active()
    assert active("meta") == "plain"


def test_a_cell_gets_the_kernels_that_are_its_own():
    class OtherGRU(GRUCell):
        def step(self, x, state, parameters):
            return super().step(2 * x, state, parameters)

    parameters = {name: torch.zeros(shape) for name, shape in GRUCell(1, 2).parameter_shapes().items()}
    assert isinstance(sweeps_for(GRUCell(1, 2), parameters), GRUSweeps)
    # Its steps are others, so the kernels would be wrong.
    assert isinstance(sweeps_for(OtherGRU(1, 2), parameters), GenericSweeps)
