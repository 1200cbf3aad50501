"""What a cell is: one step of a recurrence, and how several of its steps are taken at once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = [
    "Cell",
    "CoarsePropagator",
    "Parameters",
    "State",
    "StepCount",
    "checked_step",
    "pull_back",
    "require_cell",
    "require_states",
]

# One tensor (..., size) for each of the cell's states.
State = tuple[Tensor, ...]
Parameters = Mapping[str, Tensor]
# The number of fine steps m: one for all rows, or a tensor (..., 1) of whole numbers in the state's dtype.
StepCount = float | Tensor
# (x, state, parameters, m) -> the state m steps on, as well as one evaluation can tell.
CoarsePropagator = Callable[[Tensor, State, Parameters, StepCount], State]


def pull_back(
    function: Callable[..., State], inputs: Sequence[Tensor], cotangents: State
) -> tuple[Tensor, ...]:
    """Return the gradients of `function(*inputs)` for each input, from those of what it returns.

    `torch.func.vjp` gives the same; its first call imports for more than a second, and each takes longer.
    Raises ValueError where nothing depends on any input.
    """
    with torch.enable_grad():
        leaves = [tensor.detach().requires_grad_() for tensor in inputs]
        results = function(*leaves)
    # What does not depend on any input has no graph.
    pairs = [pair for pair in zip(results, cotangents, strict=True) if pair[0].requires_grad]
    if not pairs:
        raise ValueError(
            "nothing that a cell's step returned depends on its state, inputs or parameters: autograd did "
            "not see it (torch.no_grad, detach, NumPy); let it, or write the cell's vjp by hand"
        )
    found = torch.autograd.grad(
        [result for result, _ in pairs], leaves, [cotangent for _, cotangent in pairs], allow_unused=True
    )
    return tuple(
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, found, strict=True)
    )


class Cell(ABC):
    """One step u+ = F(x, u) of a recurrence, in plain PyTorch; leading dimensions are free.

    A subclass sets `input_size` I and `state_sizes`, one number for each state (one for a GRU, two for an
    LSTM), and defines `parameter_shapes` and `step`. What a layer puts out is the first state. The rest has
    a default: `vjp` differentiates `step`, the coarse propagator takes the relaxation towards F implicitly,
    and parameters are drawn uniformly from -1/sqrt(H) to 1/sqrt(H).
    """

    input_size: int
    state_sizes: tuple[int, ...]
    # What messages call a layer of this cell.
    name: ClassVar[str] = "recurrent"

    @abstractmethod
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each parameter by its name."""

    @abstractmethod
    def step(self, x: Tensor, state: State, parameters: Parameters) -> State:
        """Return the states (..., size) one step on, with the input x (..., I); differentiable."""

    def vjp(
        self, x: Tensor, state: State, parameters: Parameters, cotangents: State
    ) -> tuple[Tensor, State, dict[str, Tensor]]:
        """Return the gradients of x, the states before and the parameters, from those of the states after.

        Those of the parameters are sums over all leading dimensions.
        """
        names = list(parameters)

        def step(x: Tensor, *others: Tensor) -> State:
            state, values = others[: len(self.state_sizes)], others[len(self.state_sizes) :]
            return self.step(x, state, dict(zip(names, values, strict=True)))

        of_x, *others = pull_back(step, (x, *state, *parameters.values()), cotangents)
        of_state, of_parameters = others[: len(state)], others[len(state) :]
        return of_x, tuple(of_state), dict(zip(names, of_parameters, strict=True))

    def coarse_propagators(self) -> dict[str, CoarsePropagator]:
        """Return the coarse propagators by name, the one that is taken without a choice first.

        They must be differentiable, and leave a state that takes m = 0 steps as it is.
        """
        return {"relaxation": self.relax_implicitly}

    def relax_implicitly(self, x: Tensor, state: State, parameters: Parameters, m: StepCount) -> State:
        """Return u+ = (u + m F(u)) / (1 + m): u' = F(u) - u over a time m, with -u taken implicitly.

        It never amplifies u itself, however many steps m it stands for.
        """
        after = checked_step(self, x, state, parameters)
        return tuple((u + m * f) / (1.0 + m) for u, f in zip(state, after, strict=True))

    def reset(self, name: str, parameter: Tensor) -> None:
        """Draw the first values of a parameter, in place."""
        bound = 1.0 / math.sqrt(self.state_sizes[0])
        nn.init.uniform_(parameter, -bound, bound)


def checked_step(cell: Cell, x: Tensor, state: State, parameters: Parameters) -> State:
    """Take a step of a cell; raises TypeError or ValueError for what it must not do or return."""
    before = _versions(x, *state)
    after = cell.step(x, state, parameters)
    if _versions(x, *state) != before:
        raise ValueError(
            f"a step of {type(cell).__name__} changed its input or its state in place; expected new tensors, "
            "h.add(...) for h.add_(...)"
        )
    return require_states(cell, after, state)


def _versions(*tensors: Tensor) -> list[int]:
    """Return what tells whether a tensor was written to; of inference mode's, which do not tell, 0."""
    return [0 if tensor.is_inference() else tensor._version for tensor in tensors]


def require_states(cell: Cell, after: State, state: State, what: str = "step") -> State:
    """Return `after`; raises TypeError or ValueError where it is not of the form of `state`."""
    name = type(cell).__name__
    # A tensor would pass for a tuple of its rows.
    if not isinstance(after, tuple) or len(after) != len(state):
        given = f"{len(after)} states" if isinstance(after, tuple) else f"a {type(after).__name__}"
        raise TypeError(f"a {what} of {name} returned {given}; expected a tuple of {len(state)}")
    for found, before in zip(after, state, strict=True):
        if found.shape != before.shape or found.dtype != before.dtype:
            raise ValueError(
                f"a {what} of {name} returned a state of shape {tuple(found.shape)} and {found.dtype}; "
                f"expected {tuple(before.shape)} and {before.dtype}"
            )
    return after


def require_cell(cell: Cell) -> None:
    """Raise TypeError or ValueError for a cell that says something of itself that cannot be."""
    name = type(cell).__name__
    size, sizes = getattr(cell, "input_size", None), getattr(cell, "state_sizes", None)
    if not _is_size(size):
        raise ValueError(f"{name}.input_size is {size!r}; expected a whole number of at least 1")
    if not isinstance(sizes, tuple) or not sizes or not all(map(_is_size, sizes)):
        raise TypeError(f"{name}.state_sizes is {sizes!r}; expected a tuple of sizes, (hidden_size,) for one")
    shapes = cell.parameter_shapes()
    if not isinstance(shapes, dict) or not shapes:
        raise TypeError(f"{name}.parameter_shapes() is {shapes!r}; expected shapes by name, at least one")
    for key, shape in shapes.items():
        if not isinstance(key, str) or not key.isidentifier():
            raise ValueError(f"{name} has a parameter {key!r}; expected names like weight_hh")
        if not isinstance(shape, tuple) or not all(map(_is_size, shape)):
            raise TypeError(f"{name} has a parameter {key} of shape {shape!r}; expected a tuple of sizes")
    coarse = cell.coarse_propagators()
    if not isinstance(coarse, dict) or not coarse or not all(map(callable, coarse.values())):
        raise TypeError(
            f"{name}.coarse_propagators() is {coarse!r}; expected a dict of functions by name, not empty"
        )


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
