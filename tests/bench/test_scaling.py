import dataclasses

import pytest
import torch

from seqbraid import GRU, MGRIT, SimulatedWorld
from seqbraid.bench import Layer, ScalingPoint, Size, Times, fastest_within, measure_parallel, scale, simulate
from seqbraid.comm import SingleProcess

LAYER = Layer(Size(T=96, B=2, I=3, H=8), gate_bias=4.0, dtype=torch.float64)


def no_time():
    return 0.0


def errors_by_hand(solver):
    """Return the errors of states and weight gradients against torch.nn.GRU, in one process."""
    found = []
    for module in (
        GRU(3, 8, dtype=torch.float64, solver=solver),
        torch.nn.GRU(3, 8, dtype=torch.float64),
    ):
        module.load_state_dict(LAYER.weights)
        states, h_n = module(LAYER.series)
        (h_n**2).sum().backward()
        found.append((states.detach(), torch.cat([each.grad.flatten() for each in module.parameters()])))
    return [float((a - b).norm() / b.norm()) for a, b in zip(*found, strict=True)]


def test_the_errors_are_those_of_a_solve_in_one_process():
    solvers = [MGRIT(coarsening=4), MGRIT(coarsening=16, coarse="implicit")]
    ticks = []
    points = scale(LAYER, solvers, [1, 3, 5], 1, tick=lambda: ticks.append(1))
    assert [(point.ranks, point.coarsening) for point in points] == [
        (ranks, coarsening) for ranks in (1, 3, 5) for coarsening in (4, 16)
    ]
    # Of each solver a pass for the errors and one that is timed, and one of the serial path.
    assert len(ticks) == 3 * (2 + 2 + 1)
    for point in points:
        states, gradient = errors_by_hand(solvers[point.coarsening == 16])
        assert min(states, gradient) > 1e-5
        assert point.states_error == pytest.approx(states, rel=1e-6)
        assert point.gradient_error == pytest.approx(gradient, rel=1e-6)
        assert point.speedup == point.serial.median / point.times.median
        assert (point.compute_to_communication is None) is (point.ranks == 1)


def test_ranks_without_an_interval_are_counted():
    idle = {point.ranks: point.idle_ranks for point in scale(LAYER, [MGRIT(coarsening=32)], [2, 3, 5], 1)}
    assert idle == {2: 0, 3: 0, 5: 2}


def test_a_solve_that_diverges_is_marked():
    layer = dataclasses.replace(LAYER, size=Size(T=512, B=4, I=9, H=32))
    diverging = MGRIT(coarsening=16, coarse="classic", coarse_step="unit", forward_iterations=4)
    good, bad = scale(layer, [MGRIT(coarsening=8), diverging], [2], 1)
    assert bad.times is bad.speedup is bad.gradient_error is None
    assert not bad.within(1e9)
    assert good.speedup is not None
    assert fastest_within([good, bad], 1e9) == [good]


def test_messages_take_the_latency_of_the_network():
    solver = MGRIT(coarsening=8)
    seconds = {
        latency: simulate(LAYER, solver, SimulatedWorld(4, latency, 1e30, timer=no_time)).seconds
        for latency in (0.0, 1.0, 2.0)
    }
    assert seconds[0.0] == pytest.approx(0.0, abs=1e-20)  # bytes take a little
    # At least the coarse sequence of each direction passes from rank to rank.
    assert seconds[1.0] >= 6.0
    assert seconds[2.0] == pytest.approx(2.0 * seconds[1.0])


def test_only_the_pass_is_timed():
    world = SimulatedWorld(3, 1.0, 1e30, timer=no_time)
    done = simulate(LAYER, MGRIT(coarsening=8), world)
    # The barrier before the pass takes two rounds of messages.
    assert done.seconds == pytest.approx(max(world.clocks) - 2.0)
    assert done.communication_seconds == pytest.approx(sum(world.clocks) - 3 * 2.0)
    assert done.compute_seconds == 0.0


def test_computation_and_communication_make_up_the_pass():
    clock = iter(range(10**9))
    world = SimulatedWorld(3, 0.5, 1e30, timer=lambda: float(next(clock)))
    done = simulate(LAYER, MGRIT(coarsening=8), world)
    assert done.compute_seconds > 0
    assert done.compute_to_communication == done.compute_seconds / done.communication_seconds
    assert done.compute_seconds + done.communication_seconds <= 3 * done.seconds
    assert done.output.shape == (96, 2, 8)


def point(ranks, coarsening, seconds, error):
    times = Times((seconds,)) if seconds else None
    return ScalingPoint(ranks, coarsening, 0, Times((8.0,)), times, None, error, error, 0.0, 0.0)


def test_the_fastest_point_within_the_bound_is_chosen_for_each_number_of_ranks():
    points = [
        point(1, 4, 4.0, 1e-3),
        point(1, 8, 2.0, 1e-2),
        point(1, 16, 1.0, 3e-2),
        point(2, 4, 2.0, 2e-2),
        point(2, 8, 2.5, 1e-2),
        point(4, 4, 1.0, 5e-2),
        point(4, 8, None, None),
    ]
    assert fastest_within(points, 2e-2) == [points[1], points[3]]
    assert fastest_within(points, 1.0) == [points[2], points[3], points[5]]
    assert [each.speedup for each in points[-2:]] == [8.0, None]


def test_parallel_on_one_rank_and_on_simulated_ones_tells_the_same_errors():
    solver = MGRIT(coarsening=8)
    alone = measure_parallel(LAYER, solver, SingleProcess(), 2, SimulatedWorld(3))
    assert alone.gradient_error == pytest.approx(errors_by_hand(solver)[1], rel=1e-6)
    assert [len(times.seconds) for times in (alone.serial, *alone.mgrit, alone.simulated)] == [2, 2, 2]
    assert len(alone.communication_fraction) == 1
    assert 0 <= alone.communication_fraction[0] < 1
    assert alone.speedup == alone.serial.median / alone.slowest.median

    ticks = []
    on_three = SimulatedWorld(3).run(
        lambda comm: measure_parallel(LAYER, solver, comm, 1, None, lambda: ticks.append(comm.rank))
    )
    assert on_three[0] == on_three[1] == on_three[2]
    assert on_three[0].gradient_error == pytest.approx(alone.gradient_error, rel=1e-6)
    assert on_three[0].forward_residual == pytest.approx(alone.forward_residual, rel=1e-6)
    assert on_three[0].backward_residual == pytest.approx(alone.backward_residual, rel=1e-6)
    assert len(on_three[0].mgrit) == 3
    assert on_three[0].simulated is on_three[0].simulated_over_measured is None
    assert sorted(ticks) == [0, 0, 1, 1, 2, 2]
    slow, fast = Times((3.0, 3.0, 1.0)), Times((2.0, 2.0, 9.0))
    assert dataclasses.replace(on_three[0], mgrit=(fast, slow, fast)).slowest == slow
