"""Whatever the number of ranks, results are those of one process."""

from __future__ import annotations

import copy
import itertools
import warnings
from typing import Any

import pytest
import torch
from reference import relative_error
from torch import nn

import seqbraid as sb
from seqbraid.comm import SingleProcess
from seqbraid.rnn import recurrent

pytestmark = pytest.mark.on_ranks(1, 2, 3, 4)

ALONE = SingleProcess()
INPUTS, H, B, LAYERS = 3, 5, 4, 2
SOLVERS = [
    sb.Serial(),
    sb.MGRIT(coarsening=4),
    sb.MGRIT(coarsening=3, relaxation="F", coarse="implicit", coarse_input="point", forward_iterations=2),
    sb.MGRIT(coarsening=4, initial_guess="zero", forward_iterations=2, backward_iterations=3),
    sb.MGRIT(coarsening=5, tolerance=1e-9),
    sb.MGRIT(coarsening=2, levels=3, c_weight=0.9, forward_iterations=2, backward_iterations=2),
    sb.MGRIT(coarsening=3, levels=1),
    sb.MGRIT(coarsening=(3, 2), levels=3, relaxation=("F", "FCF"), c_weight=(1.0, 0.9)),
]


def solve(
    comm: object, solver: sb.Serial | sb.MGRIT, T: int, lengths: list[int] | None, **options: object
) -> list[torch.Tensor]:
    """Return this rank's output and gradient of x, and h_n and the gradients of h0 and all parameters."""
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, LAYERS, dtype=torch.float64, gamma=0.8, solver=solver, comm=comm, **options)
    directions = 2 if gru.bidirectional else 1
    series = torch.randn(T, B, INPUTS, dtype=torch.float64)
    weights = torch.randn(T, B, directions * H, dtype=torch.float64)
    h0 = torch.randn(directions * LAYERS, B, H, dtype=torch.float64, requires_grad=True)
    held = sb.local_slice(T, comm, solver)
    x = series[held].requires_grad_()
    output, h_n = gru(x, h0, lengths)
    # The local part of a loss on every output, and a loss on h_n that is the same on every rank.
    loss = (output * weights[held]).sum() + h_n.square().sum()
    gradients = torch.autograd.grad(loss, [x, h0, *gru.parameters()])
    return [output, gradients[0], h_n, *gradients[1:]]


@pytest.mark.parametrize("solver", SOLVERS)
def test_results_do_not_depend_on_the_ranks(solver: sb.Serial | sb.MGRIT, world: Any) -> None:
    """Outputs, h_n and every gradient, for lengths that divide by nothing."""
    forms = [{"cell": "classic"}, {"cell": "implicit"}, {"bidirectional": True, "dropout": 0.4}]
    cases = [
        (T, lengths, options)
        for T, options in itertools.product((1, 2, 7, 13, 37), forms)
        for lengths in (None, [T, 1, (T + 1) // 2, max(1, T - 1)])
    ]
    # Each rank solves its share alone.
    shares = world.allgather(
        [solve(ALONE, solver, *case[:2], **case[2]) for case in cases[world.rank :: world.size]]
    )
    for number, (T, lengths, options) in enumerate(cases):
        found = solve(world, solver, T, lengths, **options)
        truth = shares[number % world.size][number // world.size]
        held = sb.local_slice(T, world, solver)
        truth[:2] = [each[held] for each in truth[:2]]
        for result, (one, other) in enumerate(zip(found, truth, strict=True)):
            error = relative_error(one, other)
            where = f"{solver} {options} T={T} {lengths}: result {result}"
            assert error < 1e-12, f"{where} is off by {error:.1e}"


def test_converged_results_match_torch(world: Any) -> None:
    """Against `torch.nn.GRU` itself."""
    T = 41
    solver = sb.MGRIT(coarsening=4, forward_iterations=20, backward_iterations=20)
    torch.manual_seed(1)
    torchs = nn.GRU(INPUTS, H, LAYERS, dtype=torch.float64)
    gru = sb.GRU(INPUTS, H, LAYERS, dtype=torch.float64, solver=solver, comm=world)
    gru.load_state_dict(torchs.state_dict())
    x = torch.randn(T, B, INPUTS, dtype=torch.float64)
    held = sb.local_slice(T, world, 4)
    output, h_n = gru(x[held])
    (output.sum() + h_n.sum()).backward()
    expected, expected_h = torchs(x)
    (expected.sum() + expected_h.sum()).backward()
    assert relative_error(output, expected[held]) < 1e-12
    assert relative_error(h_n, expected_h) < 1e-12
    for one, other in zip(gru.parameters(), torchs.parameters(), strict=True):
        assert relative_error(one.grad, other.grad) < 1e-12


def test_encoder_and_per_step_head(world: Any) -> None:
    """`sum_gradients` completes the gradients of modules that see only the local slice."""
    T = 11

    def gradients(comm: object) -> list[torch.Tensor]:
        torch.manual_seed(2)
        encoder, head = nn.Linear(2, INPUTS), nn.Linear(H, 1)
        gru = sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=2), comm=comm)
        x = torch.randn(T, B, 2)[sb.local_slice(T, comm, 2)]
        head(gru(encoder(x))[0]).square().sum().backward()
        for module in (encoder, head):
            sb.sum_gradients(module, comm)
        return [each.grad for module in (encoder, gru, head) for each in module.parameters()]

    for one, other in zip(gradients(world), gradients(ALONE), strict=True):
        assert relative_error(one, other) < 1e-5


@pytest.mark.on_ranks(2, 3, 4)
def test_slices_that_do_not_fit_are_refused_on_every_rank(world: Any) -> None:
    """Each rank gets the same error, so none is left waiting."""
    torch.manual_seed(0)
    gru = sb.GRU(INPUTS, H, solver=sb.MGRIT(coarsening=4), comm=world)
    with pytest.raises(ValueError, match="local_slice"):
        gru(torch.zeros(5, B, INPUTS))
    with pytest.raises(ValueError, match="the same on each"):
        gru(torch.zeros(4, B + world.rank, INPUTS))
    spoilt = torch.zeros(4, B, INPUTS)
    spoilt[0, 0, 0] = torch.nan if world.rank == 1 else 0.0
    with pytest.raises(ValueError, match="x holds 1 values on rank 1 that are nan or inf"):
        gru(spoilt)
    with pytest.raises(ValueError, match="different lengths"):
        gru(torch.zeros(4, B, INPUTS), lengths=[1 + world.rank] * B)
    assert gru(torch.zeros(4, B, INPUTS))[0].shape == (4, B, H)


@pytest.mark.on_ranks(2, 3, 4)
def test_different_weights_are_noticed_on_every_rank(world: Any) -> None:
    """A forgotten seed gives every rank another network."""
    torch.manual_seed(world.rank)
    gru = sb.GRU(INPUTS, H, comm=world)
    x, h0 = torch.zeros(4, B, INPUTS), torch.zeros(1, B, H)
    with pytest.raises(ValueError, match=r"other weights on rank 1 than on rank 0.*manual_seed"):
        gru(x)
    for parameter in gru.parameters():
        gru.communicator.broadcast(parameter.data, 0, "weights")
    with pytest.raises(ValueError, match="another h0 on rank 1 than on rank 0"):
        gru(x, h0 + world.rank)
    gru(x, h0)


def test_the_communicator_is_duplicated_once(world: Any) -> None:
    """MPI has room for a few thousand communicators, and a training loop makes many calls."""
    head = nn.Linear(1, 1)
    for _ in range(2500):
        sb.sum_gradients(head, world)
    gru = sb.GRU(INPUTS, H, comm=world)
    assert sb.GRU(INPUTS, H, comm=world).communicator is gru.communicator
    assert copy.deepcopy(gru).communicator is gru.communicator


def test_local_slice_is_not_collective(world: Any) -> None:
    """One rank may ask alone."""
    if world.rank == 0:
        assert sb.local_slice(8, world, 2).start == 0


def test_a_lonely_module_warns_once(world: Any) -> None:
    """`comm=None` in a job of several ranks is told, once."""
    recurrent._warned_about_lonely_ranks = False
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sb.GRU(INPUTS, H)
        sb.GRU(INPUTS, H)
    assert len(caught) == (world.size > 1)
