import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.comm import SingleProcess
from seqbraid.mgrit import MGRIT, Neighbours, has_diverged, solve_in_parallel

ALONE = Neighbours(SingleProcess(), None, None, "toy problem")


class LogisticEquation:
    """u' = u (1 - u) + f by explicit Euler; coarse: one step over the whole interval. Not a GRU at all."""

    def __init__(self, intervals, coarsening, dt=0.05):
        self.intervals, self.coarsening, self.dt = intervals, coarsening, dt
        self.forcing = torch.sin(torch.arange(intervals * coarsening, dtype=torch.float64)).view(intervals, -1)
        self.states = torch.empty(coarsening, intervals, dtype=torch.float64)
        self.relaxations = 0

    def _euler(self, u, forcing, dt):
        return u + dt * (u * (1 - u) + forcing)

    def relax(self, points):
        self.relaxations += 1
        u = points
        for k in range(self.coarsening):
            u = self._euler(u, self.forcing[:, k], self.dt)
            self.states[k] = u
        return u.clone()

    def coarse(self, points):
        return self._euler(points, self.forcing.mean(1), self.coarsening * self.dt)

    def coarse_step(self, interval, point):
        return self._euler(point, self.forcing[interval].mean(), self.coarsening * self.dt)

    def serial(self, initial):
        """Return the C-points and the end of the fine solution, one step after the other."""
        points, u = [], initial
        for interval in range(self.intervals):
            points.append(u)
            for k in range(self.coarsening):
                u = self._euler(u, self.forcing[interval, k], self.dt)
        return torch.stack(points), u


INITIAL = torch.tensor(0.3, dtype=torch.float64)


@settings(deadline=None, max_examples=30)
@given(
    intervals=st.integers(1, 12),
    coarsening=st.integers(1, 6),
    iterations=st.integers(0, 6),
    relaxation=st.sampled_from(["F", "FCF"]),
    guess=st.sampled_from(["coarse", "zero"]),
)
def test_iterations_make_the_first_points_exact(intervals, coarsening, iterations, relaxation, guess):
    problem = LogisticEquation(intervals, coarsening)
    truth, end = problem.serial(INITIAL)
    options = MGRIT(coarsening=coarsening, relaxation=relaxation, initial_guess=guess)
    points, last, residuals = solve_in_parallel(problem, INITIAL, ALONE, options, iterations)
    exact = iterations * (2 if relaxation == "FCF" else 1)
    assert (points - truth)[: exact + 1].abs().max() < 1e-13
    assert len(residuals) == iterations + 1
    if exact >= intervals - 1:
        assert abs(last - end) < 1e-13


def test_residual_is_that_of_the_returned_points():
    problem = LogisticEquation(10, 4)
    options = MGRIT(coarsening=4, relaxation="F")
    points, last, residuals = solve_in_parallel(problem, INITIAL, ALONE, options, 2)
    ends = problem.relax(points)
    assert last == ends[-1]
    # The point after the last interval is not among those returned; the others' share bounds the residual.
    inner = (ends[:-1] - points[1:]).norm() / ends.norm()
    assert 0 < inner <= residuals[-1] < residuals[1] < residuals[0]


def test_serial_solution_has_no_residual_and_stays():
    problem = LogisticEquation(9, 3)
    truth, _ = problem.serial(INITIAL)
    options = MGRIT(coarsening=3)
    points, _, residuals = solve_in_parallel(problem, INITIAL, ALONE, options, 12)
    assert (points - truth).abs().max() < 1e-14
    assert max(residuals[5:]) < 1e-15


def test_one_fcf_iteration_costs_three_relaxations():
    problem = LogisticEquation(10, 4)
    solve_in_parallel(problem, INITIAL, ALONE, MGRIT(coarsening=4), 1)
    assert problem.relaxations == 3


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-10])
def test_tolerance_is_met_with_no_more_iterations_than_needed(tolerance):
    options = MGRIT(coarsening=4, tolerance=tolerance, max_iterations=50)
    _, _, residuals = solve_in_parallel(LogisticEquation(40, 4), INITIAL, ALONE, options, 1)
    assert residuals[-1] <= tolerance
    assert all(residual > tolerance for residual in residuals[:-1])


def test_tolerance_stops_at_the_largest_number_of_iterations():
    options = MGRIT(coarsening=4, tolerance=1e-300, max_iterations=3)
    _, _, residuals = solve_in_parallel(LogisticEquation(40, 4), INITIAL, ALONE, options, 1)
    assert len(residuals) == 4


def test_divergence_is_growth_after_two_iterations_or_not_finite():
    assert has_diverged((0.1, 0.2, 0.3), 1e-16)
    assert not has_diverged((0.1, 0.2), 1e-16)
    assert not has_diverged((0.1, 0.5, 0.05), 1e-16)
    assert has_diverged((0.1, math.inf), 1e-16)
    assert has_diverged((math.nan,), 1e-16)
    assert not has_diverged((1e-17, 2e-17, 3e-17), 1e-16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coarsening": 0}, "coarsening is 0"),
        ({"coarsening": 2.5}, "coarsening is 2.5"),
        ({"levels": 3}, "levels is 3"),
        ({"forward_iterations": -1}, "forward_iterations is -1"),
        ({"coarse": "explicit"}, "coarse is 'explicit'; expected one of"),
        ({"relaxation": "CF"}, "relaxation is 'CF'"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"max_iterations": True}, "max_iterations is True"),
    ],
)
def test_options_outside_the_choices_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MGRIT(**options)


def test_the_papers_setting():
    paper = MGRIT.moon_cyr()
    assert (paper.coarsening, paper.relaxation, paper.coarse) == (4, "FCF", "implicit")
    assert (paper.coarse_step, paper.coarse_input) == ("scaled", "point")
    assert (paper.forward_iterations, paper.backward_iterations) == (2, 1)
