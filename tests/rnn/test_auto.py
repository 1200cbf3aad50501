import logging

import pytest
import torch

from seqbraid import GRU, MGRIT, Serial, SimulatedWorld, local_slice
from seqbraid.comm import Communicator
from seqbraid.mgrit import interval_count
from seqbraid.rnn.auto import choose

LONG = {"T": 65536, "B": 1, "H": 64, "inputs": 9}


@pytest.mark.parametrize("size", [(1, 1, 1), (8192, 8, 64), (65536, 1, 64), (128, 100, 100)])
def test_one_rank_is_serial(size: tuple[int, int, int]) -> None:
    choice = choose(*size, 1)
    assert choice.solver == Serial()
    assert choice.predicted_seconds == choice.serial_seconds
    assert choice.alternatives == ()


def test_many_ranks_and_steps_are_worth_intervals_and_two_ranks_are_not() -> None:
    assert choose(8192, 8, 64, 2).solver == Serial()
    for ranks in (8, 64):
        choice = choose(8192, 8, 64, ranks)
        assert choice.solver.levels > 1
        assert choice.predicted_seconds < choice.serial_seconds / 3
        assert choice.speedup == choice.serial_seconds / choice.predicted_seconds
        assert choice.alternatives


def test_a_short_sequence_with_many_inputs_stays_exact() -> None:
    choice = choose(128, 100, 100, 8, inputs=1000)
    assert choice.solver == Serial()
    assert choice.speedup > 3  # the products over the inputs are parallel all the same


@pytest.mark.parametrize("ranks", [3, 7, 8, 100, 512])
@pytest.mark.parametrize("T", [65536, 100003, 1000000])
def test_no_rank_is_idle(T: int, ranks: int) -> None:
    solver = choose(T, 1, 64, ranks, inputs=9).solver
    assert solver.levels > 1
    lengths = SimulatedWorld(ranks).run(lambda comm: len(range(T)[local_slice(T, comm, solver)]))
    assert min(lengths) > 0
    assert sum(lengths) == T
    assert max(lengths) <= 2 * T / ranks


def test_longer_intervals_where_messages_cost_more() -> None:
    by_latency = [choose(**LONG, ranks=64, latency=each).solver.coarsening for each in (0.0, 1e-4, 1e-2)]
    assert by_latency == sorted(by_latency)
    assert by_latency[0] < by_latency[-1]
    by_bandwidth = [choose(**LONG, ranks=64, bandwidth=each).solver.coarsening for each in (1e11, 1e9, 1e8)]
    assert by_bandwidth == sorted(by_bandwidth)
    assert by_bandwidth[0] < by_bandwidth[-1]
    seconds = [choose(**LONG, ranks=64, latency=each).predicted_seconds for each in (0.0, 1e-5, 1e-3)]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize("memory", [None, 1, 20, 100, 500, 2000])
@pytest.mark.parametrize(("T", "ranks"), [(1000, 4), (4096, 64), (65536, 16), (65536, 128)])
def test_intervals_cover_the_memory(T: int, ranks: int, memory: int | None) -> None:
    choice = choose(T, 4, 32, ranks, memory=memory)
    for solver in (choice.solver, *(each for each, _ in choice.alternatives)):
        if solver == Serial():
            continue
        assert solver.forward_iterations == solver.backward_iterations
        assert solver.coarsening * solver.forward_iterations >= max(16, 2 * (memory or 0))
        # More iterations than that would solve everything exactly, and again.
        assert interval_count(T, solver.coarsening) > 2 * solver.forward_iterations
        if solver.coarsening < 128 or (memory is not None and solver.coarsening < memory):
            assert solver.initial_guess == "coarse"
        else:
            assert solver.initial_guess == "zero"


def test_a_memory_as_long_as_the_sequence_leaves_the_exact_solver() -> None:
    choice = choose(8192, 8, 64, 8, memory=8192)
    assert choice.solver == Serial()
    assert choice.alternatives == ()


def test_what_was_chosen_is_told_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    choice = choose(8192, 8, 64, 64, inputs=9)
    with caplog.at_level(logging.INFO, logger="seqbraid"):
        assert MGRIT.auto(8192, 8, 64, 64, inputs=9) == choice.solver
    assert caplog.messages == [str(choice)]
    first, predicted, reason, following = str(choice).splitlines()
    assert first.startswith("auto, for T=8192 B=8 I=9 H=64 on 64 ranks: coarsening=")
    assert f"speedup {choice.speedup:.1f}" in predicted
    assert "longest intervals" in reason
    assert following.count(" ms") == len(choice.alternatives) == 3
    assert "exact" in str(choose(8192, 8, 64, 1))
    assert MGRIT.auto(8192, 8, 64, 8, memory=8192) == Serial()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"T": 0}, "T is 0; expected a whole number of at least 1"),
        ({"B": -1}, "B is -1"),
        ({"H": 1.5}, "H is 1.5"),
        ({"ranks": True}, "ranks is True"),
        ({"inputs": 0}, "inputs is 0"),
        ({"memory": 0}, "memory is 0; expected a positive number of steps"),
        ({"memory": float("nan")}, "memory is nan"),
        ({"latency": -1.0}, "latency is -1.0; expected seconds"),
        ({"bandwidth": 0.0}, "bandwidth is 0.0; expected bytes"),
    ],
)
def test_wrong_values_are_named(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"T": 64, "B": 1, "H": 4, "ranks": 2, **wrong}
    with pytest.raises(ValueError, match=message):
        MGRIT.auto(**arguments)  # type: ignore[arg-type]


def test_a_network_of_short_memory_is_solved_well() -> None:
    T, B, inputs, hidden, ranks = 4096, 2, 3, 8, 16
    solver = MGRIT.auto(T, B, hidden, ranks, inputs)
    assert solver.levels > 1
    torch.manual_seed(0)
    x = torch.randn(T, B, inputs, dtype=torch.float64)
    exact = GRU(inputs, hidden, dtype=torch.float64, solver=Serial())
    states, h_n = exact(x)
    h_n.square().sum().backward()

    def on_rank(comm: Communicator) -> tuple[torch.Tensor, list[torch.Tensor | None]]:
        module = GRU(inputs, hidden, dtype=torch.float64, solver=solver, comm=comm)
        module.load_state_dict(exact.state_dict())
        output, end = module(x[local_slice(T, comm, solver)])
        end.square().sum().backward()
        return output.detach(), [each.grad for each in module.parameters()]

    shares = SimulatedWorld(ranks).run(on_rank)
    torch.testing.assert_close(
        torch.cat([output for output, _ in shares]), states.detach(), rtol=0, atol=1e-4
    )
    for found, parameter in zip(shares[0][1], exact.parameters(), strict=True):
        torch.testing.assert_close(found, parameter.grad, rtol=1e-4, atol=1e-5)
