import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from logistic_equation import EulerLevel, LogisticEquation

from seqbraid.comm import SimulatedWorld, SingleProcess
from seqbraid.mgrit import (
    MGRIT,
    DirectionReport,
    Neighbours,
    Partition,
    has_diverged,
    local_slice,
    relative_residuals,
    solve_in_parallel,
)

ALONE = Neighbours(SingleProcess(), Partition((1,), 0), False, "toy problem")


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
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, iterations)
    points, last, residuals = solution.points, solution.end, relative_residuals(solution.squares)
    exact = iterations * (2 if relaxation == "FCF" else 1)
    assert (points - truth)[: exact + 1].abs().max() < 1e-13
    assert len(residuals) == iterations + 1
    if exact >= intervals - 1:
        assert abs(last - end) < 1e-13


def test_residual_is_that_of_the_returned_points():
    problem = LogisticEquation(10, 4)
    options = MGRIT(coarsening=4, relaxation="F")
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, 2)
    points, last, residuals = solution.points, solution.end, relative_residuals(solution.squares)
    ends = problem.relax(points, slice(0, 10), keep=False)
    assert last == ends[-1]
    # The point after the last interval is not among those returned; the others' share bounds the residual.
    inner = (ends[:-1] - points[1:]).norm() / ends.norm()
    assert 0 < inner <= residuals[-1] < residuals[1] < residuals[0]


def test_serial_solution_has_no_residual_and_stays():
    problem = LogisticEquation(9, 3)
    truth, _ = problem.serial(INITIAL)
    options = MGRIT(coarsening=3)
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, 12)
    assert (solution.points - truth).abs().max() < 1e-14
    assert max(relative_residuals(solution.squares)[5:]) < 1e-15


def test_one_fcf_iteration_costs_three_relaxations_two_sequences_and_one_batch():
    problem = LogisticEquation(10, 4)
    solution = solve_in_parallel(problem, INITIAL, ALONE, MGRIT(coarsening=4), 1)
    assert (problem.relaxations, solution.coarse_sequences, solution.coarse_batches) == (3, 2, 1)


class Clock:
    """Virtual seconds that pass where a test says so."""

    now = 0.0

    def __call__(self):
        return self.now


class TimedLevel(EulerLevel):
    def __init__(self, steps, clock):
        super().__init__(steps.forcing, steps.lengths)
        self.clock = clock

    def propagate(self, points, coarsening, source):
        self.clock.now += 1.0
        return super().propagate(points, coarsening, source)

    def gather(self, gather):
        return TimedLevel(super().gather(gather), self.clock)


class TimedEquation(LogisticEquation):
    """Its relaxations take 100 s each, building its coarse level 10 s, and each use of that 1 s."""

    def __init__(self, clock):
        super().__init__(6, 4)
        self.clock = clock

    def relax(self, points, which, keep, group=None):
        self.clock.now += 100.0
        return super().relax(points, which, keep, group)

    def coarse_level(self, for_guess):
        self.clock.now += 10.0
        return TimedLevel(super().coarse_level(for_guess), self.clock)


def test_seconds_on_the_coarse_levels_are_those_of_guess_and_corrections_without_messages():
    clock = Clock()

    def function(comm):
        neighbours = Neighbours(comm, Partition((24, 24), comm.rank), False, "timed problem")
        solution = solve_in_parallel(TimedEquation(clock), INITIAL, neighbours, MGRIT(coarsening=4), 2)
        return solution.coarse_seconds, neighbours.seconds

    found = SimulatedWorld(2, latency=1e4, bandwidth=1e30, timer=clock).run(function)
    # One guess, and two corrections with a tau each.
    assert [coarse for coarse, _ in found] == [10 + 1 + 2 * 2] * 2
    assert min(communication for _, communication in found) > 1e4


@settings(deadline=None, max_examples=40)
@given(
    intervals=st.integers(1, 40),
    levels=st.integers(3, 5),
    coarsening=st.integers(2, 4),
    short_first=st.booleans(),
    relaxation=st.sampled_from(["F", "FCF"]),
)
def test_more_levels_converge_to_the_same_solution(intervals, levels, coarsening, short_first, relaxation):
    problem = LogisticEquation(intervals, coarsening)
    problem.short_first = short_first
    truth, _ = problem.serial(INITIAL)
    options = MGRIT(
        coarsening=coarsening, levels=levels, relaxation=relaxation, tolerance=1e-13, max_iterations=60
    )
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, 1)
    assert (solution.points - truth).abs().max() < 1e-11
    if intervals > 2 * coarsening:
        assert solution.coarse_batches > 0


def test_three_levels_gain_with_every_iteration():
    options = MGRIT(coarsening=4, levels=3)
    residuals = relative_residuals(
        solve_in_parallel(LogisticEquation(64, 4), INITIAL, ALONE, options, 6).squares
    )
    assert all(new < old / 3 for old, new in itertools.pairwise(residuals))


def test_the_weight_of_c_relaxation_changes_the_way_and_not_the_solution():
    problem = LogisticEquation(24, 4)
    truth, _ = problem.serial(INITIAL)
    first = {}
    for weight in (0.7, 1.0, 1.3):
        options = MGRIT(coarsening=4, c_weight=weight, tolerance=1e-14, max_iterations=60)
        solution = solve_in_parallel(problem, INITIAL, ALONE, options, 1)
        assert (solution.points - truth).abs().max() < 1e-12
        first[weight] = relative_residuals(solution.squares)[1]
    assert len(set(first.values())) == 3


@pytest.mark.parametrize("tolerance", [None, 1e-6])
@pytest.mark.parametrize("relaxation", ["F", "FCF"])
def test_the_states_that_are_kept_are_those_of_the_last_relaxation(tolerance, relaxation):
    problem = LogisticEquation(10, 4)
    options = MGRIT(coarsening=4, relaxation=relaxation, tolerance=tolerance)
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, 2)
    assert problem.kept == 1
    again = LogisticEquation(10, 4)
    again.relax(solution.points, slice(0, 10), keep=True)
    assert torch.equal(problem.states, again.states)


@pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-10])
def test_tolerance_is_met_with_no_more_iterations_than_needed(tolerance):
    options = MGRIT(coarsening=4, tolerance=tolerance, max_iterations=50)
    residuals = relative_residuals(
        solve_in_parallel(LogisticEquation(40, 4), INITIAL, ALONE, options, 1).squares
    )
    assert residuals[-1] <= tolerance
    assert all(residual > tolerance for residual in residuals[:-1])


def test_tolerance_stops_at_the_largest_number_of_iterations():
    options = MGRIT(coarsening=4, tolerance=1e-300, max_iterations=3)
    residuals = relative_residuals(
        solve_in_parallel(LogisticEquation(40, 4), INITIAL, ALONE, options, 1).squares
    )
    assert len(residuals) == 4


def test_divergence_is_growth_after_two_iterations_or_not_finite():
    assert has_diverged((0.1, 0.2, 0.3), 1e-16)
    assert not has_diverged((0.1, 0.2), 1e-16)
    assert not has_diverged((0.1, 0.5, 0.05), 1e-16)
    assert has_diverged((0.1, math.inf), 1e-16)
    assert has_diverged((math.nan,), 1e-16)
    assert has_diverged((math.nan, 0.1), 1e-16)
    # States of zero, whose guess was another: the residual is relative to them.
    assert not has_diverged((math.inf, 0.0), 1e-16)
    assert not has_diverged((math.inf, 1.0, 0.0), 1e-16)
    assert not has_diverged((), 1e-16)
    assert not has_diverged((1e-17, 2e-17, 3e-17), 1e-16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coarsening": 0}, "coarsening is 0"),
        ({"coarsening": 2.5}, "coarsening is 2.5"),
        ({"levels": 0}, "levels is 0"),
        ({"forward_iterations": -1}, "forward_iterations is -1"),
        ({"relaxation": "CF"}, "relaxation is 'CF'"),
        ({"c_weight": 2.0}, "c_weight is 2.0"),
        ({"tolerance": 0.0}, "tolerance is 0.0"),
        ({"max_iterations": True}, "max_iterations is True"),
        ({"coarsening": (4, 2)}, r"coarsening` is \(4, 2\), 2 values; expected one for each level .* 1 with"),
        ({"coarsening": (4, 0), "levels": 3}, "coarsening is 0"),
        ({"relaxation": ["F", "CF"], "levels": 3}, "relaxation is 'CF'"),
        ({"c_weight": (1.0, 2.5), "levels": 3}, "c_weight is 2.5"),
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


def test_each_level_may_have_its_own_coarsening_relaxation_and_weight():
    options = MGRIT(coarsening=[6, 2, 3], levels=4, relaxation=("F", "FCF", "F"), c_weight=(1, 0.9, 1))
    assert [options.coarsening_of(level) for level in range(3)] == [6, 2, 3]
    assert [options.fine_steps_of(level) for level in range(4)] == [1, 6, 12, 36]
    assert options.slice_multiple == 36
    assert options.relaxation_of(1) == "FCF"
    problem = LogisticEquation(36, 6)
    truth, end = problem.serial(INITIAL)
    solution = solve_in_parallel(problem, INITIAL, ALONE, options, 20)
    assert (solution.points - truth).abs().max() < 1e-13
    assert abs(solution.end - end) < 1e-13
    residuals = relative_residuals(solution.squares)
    assert residuals[3] < residuals[1] < residuals[0]
    # As many evaluations as the levels' own intervals have steps; F on level 1 would have fewer.
    one = solve_in_parallel(problem, INITIAL, ALONE, options, 1)
    same = MGRIT(coarsening=(6, 2, 3), levels=4, relaxation="F")
    assert one.coarse_batches - solve_in_parallel(problem, INITIAL, ALONE, same, 1).coarse_batches == 2


def over_ranks(comm, options, iterations, sequential="gathered", guess=None):
    """Solve 13 intervals of 4 steps over the ranks; return the points, the end and the residuals."""
    held = local_slice(13 * 4, comm, options)
    multiple = options.slice_multiple
    lengths = tuple(comm.all_gather_objects(held.stop - held.start, "lengths"))
    neighbours = Neighbours(comm, Partition(lengths, comm.rank), False, "toy problem")
    first, count = held.start // 4, -(-(held.stop - held.start) // 4)
    assert held.start % multiple == 0 or not count
    problem = LogisticEquation(count, 4, first=first)
    problem.sequential = sequential
    own = None if guess is None else guess[first : first + count]
    solution = solve_in_parallel(problem, INITIAL, neighbours, options, iterations, own)
    residuals = relative_residuals(neighbours.sum(solution.squares, "residuals"))
    return solution.points, solution.end, residuals, neighbours.seconds


@pytest.mark.parametrize("ranks", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("levels", [2, 3])
@pytest.mark.parametrize("sequential", ["gathered", "pipeline"])
def test_the_coarsest_level_is_solved_alike_gathered_and_in_a_pipeline(ranks, levels, sequential):
    options = MGRIT(coarsening=(4, 2)[: levels - 1], levels=levels)
    truth = over_ranks(SingleProcess(), options, 2)
    found = SimulatedWorld(ranks).run(lambda comm: over_ranks(comm, options, 2, sequential))
    assert torch.equal(torch.cat([points for points, *_ in found]), truth[0])
    holders = [end for points, end, *_ in found if len(points)]
    assert holders[-1] == truth[1]
    for _, _, residuals, _ in found:
        assert residuals == pytest.approx(truth[2], rel=1e-12)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_guess_that_is_handed_in_takes_the_place_of_the_coarse_solution(ranks):
    options = MGRIT(coarsening=4)
    exact, end = LogisticEquation(13, 4).serial(INITIAL)
    ends = torch.cat([exact[1:], end.unsqueeze(0)])
    for offset in (0.0, 1e-3):
        found = SimulatedWorld(ranks).run(
            lambda comm, guess=ends + offset: over_ranks(comm, options, 2, guess=guess)
        )
        residuals = found[0][2]
        # Of the exact states nothing is left to do; of others an iteration or two remain.
        assert residuals[0] < 1e-14 if offset == 0.0 else 1e-4 < residuals[0] < 1e-2
        assert (torch.cat([points for points, *_ in found]) - exact).abs().max() < 1e-7
    assert over_ranks(SingleProcess(), options, 2)[2][0] > 1e-4


def test_the_convergence_factor_is_the_mean_of_an_iteration():
    report = DirectionReport(0, (1e-1, 1e-3, 1e-7), 1.0)
    assert report.convergence_factor == pytest.approx(1e-3)
    assert "convergence factor 0.001" in str(report)
    assert DirectionReport(0, (1e-1,), 1.0).convergence_factor is None
    assert DirectionReport(0, (), 1.0).convergence_factor is None
    assert DirectionReport(0, (0.0, 0.0), 1.0).convergence_factor is None
