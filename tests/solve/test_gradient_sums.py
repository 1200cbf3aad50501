"""Sums of weight gradients that go on during the backward solves of the layers below, on simulated ranks.

A simulated run ends with an error where a sum was started and never waited for.
"""

import copy

import pytest
import torch
from reference import relative_error

import seqbraid as sb

INPUTS, H, T, B, LAYERS = 3, 4, 12, 5, 3
SOLVER = sb.MGRIT(coarsening=2)


def make(comm, layers=LAYERS, **options):
    torch.manual_seed(0)
    options = {"dtype": torch.float64, "solver": SOLVER, **options}
    return sb.GRU(INPUTS, H, layers, comm=comm, **options)


class Wrapped:
    """A communicator that does something else in some calls."""

    def __init__(self, inner):
        self.inner = inner
        self.rank, self.size = inner.rank, inner.size

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def split(self, ranks):
        return self if len(ranks) == self.size else self.inner.split(ranks)


# The sums go on meanwhile


class Recording(Wrapped):
    """Keeps what is called, and for what."""

    def __init__(self, inner, calls):
        super().__init__(inner)
        self.calls = calls

    def all_reduce(self, tensor, what):
        self.calls.append(("all_reduce", what, tensor.numel()))
        return self.inner.all_reduce(tensor, what)

    def all_gather(self, share, everything, counts, what):
        self.calls.append(("all_gather", what, everything.numel()))
        return self.inner.all_gather(share, everything, counts, what)

    def start_all_reduce(self, tensor, what):
        self.calls.append(("start", what, tensor.numel()))
        return RecordedSum(self, self.inner.start_all_reduce(tensor, what), what)


class RecordedSum:
    def __init__(self, communicator, pending, what):
        self.communicator, self.pending, self.what = communicator, pending, what

    def wait(self):
        self.communicator.calls.append(("wait", self.what, 0))
        return self.pending.wait()


def calls_in_backward(comm, **options):
    calls = []
    gru = make(Recording(comm, calls), **options)
    loss = gru(torch.zeros(T // comm.size, B, INPUTS, dtype=torch.float64))[1].sum()
    calls.clear()
    loss.backward()
    return calls


def test_sums_start_before_and_are_waited_for_after_the_solves_of_the_layers_below():
    calls = sb.SimulatedWorld(2).run(calls_in_backward)[1]
    names = [(kind, what) for kind, what, _ in calls]
    of_layer = [f"GRU layer {layer}: sum of the gradients" for layer in range(LAYERS)]
    solves = [
        [place for place, (_, what) in enumerate(names) if f"layer {layer}: backward solve" in what]
        for layer in range(LAYERS)
    ]
    assert all(solves)
    for layer in (1, 2):
        assert solves[layer][-1] < names.index(("start", of_layer[layer])) < solves[layer - 1][0]
        assert names.index(("wait", of_layer[layer])) > max(solves[0])
    # What must be known at once is small: two residuals, as mantissas and exponents, of each rank.
    sizes = {(kind, what): size for kind, what, size in calls}
    assert sizes["all_reduce", of_layer[2]] == 2 * 2 * 2 * 2
    weights = 3 * H * (H + H + 2)
    assert sizes["start", of_layer[2]] == weights
    # The lowest layer has all in one message, with the gradient of a different input size.
    assert sizes["all_reduce", of_layer[0]] == 3 * H * (INPUTS + H + 2) + 16
    assert ("start", of_layer[0]) not in sizes


def test_one_layer_of_one_group_and_a_single_process_start_no_sums():
    calls = sb.SimulatedWorld(2).run(lambda comm: calls_in_backward(comm, layers=1))[0]
    assert "start" not in [kind for kind, _, _ in calls]
    # No gate either: the layer's parameters are the module's own.
    output, _ = make(None)(torch.zeros(T, B, INPUTS, dtype=torch.float64))
    names, nodes = set(), [output.grad_fn]
    while nodes:
        node = nodes.pop()
        names.add(type(node).__name__)
        nodes += [each for each, _ in node.next_functions if each is not None]
    assert "DifferentiableSolveBackward" in names
    assert not any("Gate" in name for name in names)


class Blocking(Wrapped):
    """Waits for every sum where it starts."""

    def start_all_reduce(self, tensor, what):
        started = self.inner.start_all_reduce(tensor, what)
        started.wait()
        return started


@pytest.mark.parametrize("solver", [SOLVER, sb.Serial()], ids=["MGRIT", "Serial"])
def test_a_slow_network_costs_less_than_with_sums_that_block(solver):
    def backward(comm):
        gru = make(comm, solver=solver)
        h_n = gru(torch.zeros(T // comm.size, B, INPUTS, dtype=torch.float64))[1]
        comm.barrier("start")
        start = comm.clock()
        h_n.sum().backward()
        return comm.clock() - start, gru.last_solve.backward

    # No time but that of messages passes: a sum takes that of half a layer's solve, and two overlap each.
    def run(wrap):
        world = sb.SimulatedWorld(2, latency=1.0, bandwidth=1000.0, timer=lambda: 0.0)
        return world.run(lambda comm: backward(wrap(comm)))

    overlapped, blocking = run(lambda comm: comm), run(Blocking)
    weights = 8 * 3 * H * (2 * H + 2) / 1000.0
    for (seconds, report), (longer, _) in zip(overlapped, blocking, strict=True):
        assert longer - seconds > weights
        # Waiting is charged to the layer whose sum it is.
        assert sum(entry.seconds for entry in report) == pytest.approx(seconds)
        assert all(entry.seconds == pytest.approx(entry.communication_seconds) for entry in report)


# What autograd may do with it


def everything(gru, x, h0, loss):
    loss(gru, x, h0).backward()


def x_alone(gru, x, h0, loss):
    x.grad = torch.autograd.grad(loss(gru, x, h0), x)[0]


def h0_alone(gru, x, h0, loss):
    h0.grad = torch.autograd.grad(loss(gru, x, h0), h0)[0]


def one_weight_alone(name):
    def run(gru, x, h0, loss):
        weight = gru.get_parameter(name)
        weight.grad = torch.autograd.grad(loss(gru, x, h0), weight)[0]

    run.__name__ = name
    return run


def frozen(*names):
    def run(gru, x, h0, loss):
        for name, parameter in gru.named_parameters():
            parameter.requires_grad_(not any(each in name for each in names))
        loss(gru, x, h0).backward()

    run.__name__ = "frozen " + " ".join(names)
    return run


def nothing_but_weights(gru, x, h0, loss):
    loss(gru, x.detach(), None).backward()


def all_frozen_but_x(gru, x, h0, loss):
    gru.requires_grad_(False)
    loss(gru, x, h0.detach()).backward()


def twice_through_one_graph(gru, x, h0, loss):
    value = loss(gru, x, h0)
    value.backward(retain_graph=True)
    value.backward()


def accumulated_over_calls(gru, x, h0, loss):
    for factor in (1.0, 3.0):
        loss(gru, factor * x, h0).backward()


def two_calls_before_one_backward(gru, x, h0, loss):
    (loss(gru, x, h0) + loss(gru, 2 * x, None)).backward()


def one_call_after_the_other(gru, x, h0, loss):
    _, h_n = gru(x, h0)
    loss(gru, x, h_n).backward()


def the_lowest_layer_alone(gru, x, h0, loss):
    gru(x, h0)[1][0].square().sum().backward()


def after_a_call_without_gradients(gru, x, h0, loss):
    with torch.no_grad():
        loss(gru, x, h0)
    loss(gru, x, h0).backward()


def after_a_backward_that_failed(gru, x, h0, loss):
    def fail(gradient):
        raise ZeroDivisionError

    inputs = x * 1.0
    inputs.register_hook(fail)
    with pytest.raises(ZeroDivisionError):
        loss(gru, inputs, h0).backward()
    gru.zero_grad()
    h0.grad = None
    loss(gru, x, h0).backward()


def hooks_see_the_sums(gru, x, h0, loss):
    seen = {}
    for name, parameter in gru.named_parameters():
        parameter.register_hook(lambda gradient, name=name: seen.setdefault(name, []).append(gradient))
    loss(gru, x, h0).backward()
    for name, parameter in gru.named_parameters():
        assert len(seen[name]) == 1
        assert torch.equal(seen[name][0], parameter.grad)
        parameter.grad = seen[name][0].clone()


def tied_layers(gru, x, h0, loss):
    gru.weight_hh_l2 = gru.weight_hh_l1
    loss(gru, x, h0).backward()


def a_copy(gru, x, h0, loss):
    twin = copy.deepcopy(gru)
    loss(twin, x, h0).backward()
    for one, other in zip(gru.parameters(), twin.parameters(), strict=True):
        one.grad = other.grad


SCENARIOS = [
    everything,
    x_alone,
    h0_alone,
    one_weight_alone("weight_hh_l2"),
    one_weight_alone("weight_ih_l0"),
    frozen("_l1"),
    frozen("_l0"),
    frozen("_l0", "_l1"),
    frozen("weight_ih", "bias_hh"),
    nothing_but_weights,
    all_frozen_but_x,
    twice_through_one_graph,
    accumulated_over_calls,
    two_calls_before_one_backward,
    one_call_after_the_other,
    the_lowest_layer_alone,
    after_a_call_without_gradients,
    after_a_backward_that_failed,
    hooks_see_the_sums,
    tied_layers,
    a_copy,
]


def gradients(comm, scenario, bidirectional):
    """Return which part of time and batch a rank has, and the gradients of x, h0 and the weights by name."""
    # In float32 first: a module may change its precision.
    gru = make(comm, dtype=torch.float32, bidirectional=bidirectional).double()
    width = H * (2 if bidirectional else 1)
    torch.manual_seed(3)
    series = torch.randn(T, B, INPUTS, dtype=torch.float64)
    weights = torch.randn(T, B, width, dtype=torch.float64)
    initial = torch.randn(LAYERS * width // H, B, H, dtype=torch.float64)
    held = sb.local_slice(T, comm, SOLVER)
    mine = slice(0, B) if comm is None else comm.local_batch(B)
    x, h0 = series[held, mine].requires_grad_(), initial[:, mine].requires_grad_()

    def loss(gru, x, h0):
        output, h_n = gru(x, h0)
        return (output * weights[held, mine]).sum() + h_n.square().sum()

    scenario(gru, x, h0, loss)
    of_weights = {name: parameter.grad for name, parameter in gru.named_parameters()}
    return held, mine, {"x": x.grad, "h0": h0.grad, **of_weights}


def check(scenario, S, D, bidirectional=False):
    _, _, truth = gradients(None, scenario, bidirectional)
    assert any(gradient is not None for gradient in truth.values())

    def on_rank(comm):
        return gradients(sb.ProcessGrid(comm, S, D), scenario, bidirectional)

    for held, mine, found in sb.SimulatedWorld(S * D).run(on_rank):
        for name, expected in truth.items():
            assert (found[name] is None) == (expected is None), name
            if expected is not None:
                part = {"x": (held, mine), "h0": (slice(None), mine)}.get(name, ...)
                assert relative_error(found[name], expected[part]) < 1e-10, name


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
@pytest.mark.parametrize("grid", [(2, 1), (2, 2)], ids=str)
def test_gradients_are_those_of_one_process_whatever_is_asked_for(scenario, grid):
    check(scenario, *grid)


@pytest.mark.parametrize("scenario", [everything, x_alone, twice_through_one_graph, tied_layers])
def test_gradients_of_both_directions_are_those_of_one_process(scenario):
    check(scenario, 3, 1, bidirectional=True)
    check(scenario, 1, 3, bidirectional=True)


def test_divergence_of_a_lower_layer_leaves_no_sum_behind():
    def train(comm):
        gru = make(comm, layers=2)
        x = torch.zeros(T // 2, B, INPUTS, dtype=torch.float64, requires_grad=True)
        output, h_n = gru(x)
        with pytest.raises(sb.SolverDivergedError, match="layer 0: the backward solve diverged"):
            (output.sum() + torch.nan * h_n[0].sum()).backward()
        assert all(parameter.grad is None for parameter in [x, *gru.parameters()])
        gru(x)[0].sum().backward()
        return x.grad.isfinite().all()

    assert all(sb.SimulatedWorld(2).run(train))
