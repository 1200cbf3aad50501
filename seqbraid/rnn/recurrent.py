"""`seqbraid.Recurrent`: stacked layers of any cell, solved in parallel along the sequence."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from seqbraid.cells import Cell, require_cell
from seqbraid.comm import Communicator, as_grid, launched_ranks
from seqbraid.mgrit import SolveReport, interval_count
from seqbraid.options import MGRIT, Serial
from seqbraid.rnn.coarse import resolved
from seqbraid.rnn.dropout import drop
from seqbraid.rnn.inputs import as_list, check_input, initial_states, pack_like
from seqbraid.rnn.layer import Layer
from seqbraid.solve import Call, Divergence, GradientSums, SolvePlan, agree_on_call, solve

__all__ = ["Recurrent"]

# The states of all cells of a module: one tensor, or one for each of a cell's states.
States = Tensor | tuple[Tensor, ...]


class Recurrent(nn.Module):
    """Layers of a cell whose sequence dimension is solved in parallel, with exact gradients.

    Args:
        cells: a `Cell`, or a sequence of them, one for each stacked layer: the input of a layer is what all
            directions of the layer below put out.
        batch_first: x and output are (B, T, ·) instead of (T, B, ·) (default False).
        dropout: probability with which each value that a layer but the last puts out is set to zero in
            training (default 0.0). What is dropped depends on torch's seed on rank 0, not on the number of
            ranks.
        bidirectional: add to each layer one that runs from the sequence's end to its start (default False).
        device: where the parameters lie.
        dtype: float32 (default) or float64.
        solver: `Serial()` (default), exact, or `MGRIT(...)`, in parallel over intervals and ranks; its
            `coarse` is one of the cell's `coarse_propagators()`, the first of them by default.
        comm: None (one process), an mpi4py communicator, or a `seqbraid.comm.Communicator`. Each rank then
            holds the slice of the sequence that `seqbraid.local_slice` gives it, and the same weights. With a
            `seqbraid.ProcessGrid` the ranks along its sequence do so, for the sequences of their group, of
            which there may be none; the gradients of the weights are sums over all groups. So a mean loss is
            a sum over the group's sequences divided by the global batch.

    Attributes:
        grid: the ranks as a `ProcessGrid`.
        last_solve: `SolveReport` of the latest forward, and of its backward once that has run.
        last_points: of the latest forward, what `guess` takes: a tensor for each layer and direction, None
            of a layer that was solved in sequence.

    The parameters are those of the cell, `NAME_l0` for layer 0, `NAME_l0_reverse` for its other direction.
    `module(x, h0=None, lengths=None)` returns output and h_n, see `forward`; with `lengths`, sequences of
    unequal length need no packing. Under autocast the solve keeps the weights' precision. Raises ValueError
    or TypeError for arguments outside these.

    """

    def __init__(
        self,
        cells: Cell | Sequence[Cell],
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        solver: Serial | MGRIT | None = None,
        comm: object = None,
    ) -> None:
        super().__init__()
        stack = _as_stack(cells)
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout!r}; expected at least 0 and less than 1")
        if dropout > 0.0 and len(stack) == 1:
            warnings.warn("dropout acts between layers, and there is only one", UserWarning, stacklevel=2)
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        directions = 2 if bidirectional else 1
        _check_stack(stack, directions)
        solver = Serial() if solver is None else solver
        if not isinstance(solver, (Serial, MGRIT)):
            raise TypeError(f"solver is a {type(solver).__name__}; expected seqbraid.Serial() or MGRIT(...)")
        for cell in stack:
            resolved(solver, cell)  # raises
        if comm is None and launched_ranks() > 1:
            _warn_about_lonely_ranks(type(self))
        self.input_size = stack[0].input_size
        self.num_layers = len(stack)
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.solver: Serial | MGRIT = solver
        self.grid = as_grid(comm)
        self.last_solve = SolveReport()
        self.last_points: list[Tensor | None] = []
        self._stack = stack
        for layer, reverse in self._solves():
            for name, shape in stack[layer].parameter_shapes().items():
                parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(_parameter_name(name, layer, reverse), parameter)
        self.reset_parameters()

    @property
    def cells(self) -> list[Cell]:
        """The cell of each layer."""
        return self._stack

    @property
    def communicator(self) -> Communicator:
        """The ranks that share the steps of this rank's sequences."""
        return self.grid.sequence

    def reset_parameters(self) -> None:
        """Draw every parameter as its cell does."""
        for layer, reverse in self._solves():
            cell = self._stack[layer]
            for name in cell.parameter_shapes():
                cell.reset(name, self.get_parameter(_parameter_name(name, layer, reverse)))

    def flatten_parameters(self) -> None:
        """Do nothing: code written for `torch.nn` calls it; our parameters need no common buffer."""

    def forward(
        self,
        x: Tensor | PackedSequence,
        h0: States | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        guess: Sequence[Tensor | None] | None = None,
    ) -> tuple[Any, Any]:
        """Solve the recurrence; collective over the ranks of `comm`, as is the backward pass.

        On a `ProcessGrid`, B is the number of this group's sequences, and what is said to be equal on all
        ranks is so on those of its group.

        Args:
            x: this rank's slice (T, B, I), or (B, T, I) with batch_first, or (T, I) without a batch. Where no
                sequence is cut also a `PackedSequence`.
            h0: (layers * directions, B, H), without a batch (layers * directions, H), equal on all ranks;
                zeros where None. Its gradient is equal on all ranks too. Of a cell with several states a
                tuple, one tensor for each.
            lengths: (B,) whole numbers, each sequence's global number of steps, equal on all ranks.
                The states stand still past a sequence's end, and its outputs are zero there.
            guess: what MGRIT starts from instead of its own initial guess: `last_points` of an earlier call
                with the same shape of x, the last epoch's for the same batch for example; on all ranks or on
                none. The serial solver needs none.

        Returns:
            output (T, B, directions * H), this rank's slice of the last layer's states, in the form of x; and
            h_n (layers * directions, B, H), the states at each sequence's true end (of a reverse direction:
            at its start), equal on every rank; a tuple of such where the cell has several states.

        Raises:
            ValueError: for shapes or lengths that do not fit, slices not cut by `local_slice`, nan or inf,
                weights or h0 that are not the same on every rank.
            TypeError: for a dtype or device other than the weights'.
            SolverDivergedError: where MGRIT diverges and `on_divergence` is "raise".

        """
        if isinstance(x, PackedSequence):
            return self._forward_packed(x, h0, lengths, guess)
        if not isinstance(x, Tensor):
            raise TypeError(f"x is a {type(x).__name__}; expected a torch.Tensor or a PackedSequence")
        weight = next(self.parameters())
        if torch.is_autocast_enabled(x.device.type):
            # What an autocast layer before this one made; the solve keeps its precision.
            x = x.to(weight.dtype)
        check_input(x, self.input_size, self.batch_first, weight)
        batched = x.dim() == 3
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        batch = x.shape[1]
        if batch == 0 and self.grid.data.size == 1:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one sequence")
        initial = initial_states(h0, batched, x, self.num_layers * self._directions, self._stack[0])
        if batch == 0:
            # Other groups have sequences, and wait for this one's part in their sums: it solves for zeros.
            x, initial = nn.functional.pad(x, (0, 0, 0, 1)), nn.functional.pad(initial, (0, 0, 0, 1))
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        call = agree_on_call(
            self.grid,
            x,
            batch,
            as_list(lengths),
            self.solver.slice_multiple,
            dropout > 0,
            self.parameters(),
            initial,
            self._same_on_all_ranks(guess) if self.grid.world.size > 1 else {},
            _refuse_guess(guess, len(self._solves()), x.shape[0], self.solver, initial.shape[1:]),
        )
        if call.valid is not None and not call.padding_is_finite:
            # What lies past a sequence's end may be anything, and 0 * nan is not 0.
            x = x.masked_fill(~call.valid.unsqueeze(-1), 0.0)

        with torch.autocast(x.device.type, enabled=False):
            x, h_n = self._solve_layers(x, initial, call, dropout, guess)
        if batch == 0:
            x, h_n = x[:, :0], h_n[:, :0]
        if not batched:
            x, h_n = x.squeeze(1), h_n.squeeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        sizes = self._stack[0].state_sizes
        return x, h_n if len(sizes) == 1 else torch.split(h_n, list(sizes), dim=-1)

    def _same_on_all_ranks(self, guess: Sequence[Tensor | None] | None) -> dict[str, object]:
        """Return what must not differ between ranks, by its name in errors."""
        return {
            "cell or step": [_looks(cell) for cell in self.cells],
            "solver": self.solver,
            "choice of parameters to train": [each.requires_grad for each in self.parameters()],
            "guess": None if guess is None else [each is None for each in guess],
        }

    def _solve_layers(
        self,
        x: Tensor,
        initial: Tensor,
        call: Call,
        dropout: float,
        guess: Sequence[Tensor | None] | None,
    ) -> tuple[Tensor, Tensor]:
        """Solve layer by layer; x (T, B, I) is this rank's slice, `initial` (layers * directions, B, S)."""
        cells, solves = self.cells, self._solves()
        report = SolveReport()
        divergence = Divergence(self.solver, self.grid)
        sums = GradientSums.of(self.grid, self.num_layers, divergence)
        weights: list[Tensor | None] = list(self._weights())
        places: list[int | None] = [None] * len(weights)
        if sums is not None:
            (x, initial, *weights), (_, _, *places) = sums.enter([x, initial, *weights])
        final_states: list[Tensor] = []
        outputs: list[Tensor] = []
        ends: list[Tensor | None] = []
        first = 0
        for number, (layer, reverse) in enumerate(solves):
            model = Layer(cells[layer], call.partition, call.valid, layer, reverse, self.grid.sequence.size)
            last = first + len(model.where) - 1
            plan = SolvePlan(
                model,
                resolved(self.solver, cells[layer]),
                self.grid,
                call.partition,
                report,
                divergence,
                layer,
                torch.is_grad_enabled(),
                number == len(solves) - 1,
                sums,
                (None, *places[first:last]),
                None if guess is None else _like(guess[number], initial),
                ends,
            )
            output, h_n = solve(plan, initial[number], [x, *weights[first:last]])
            first = last
            outputs.append(output)
            final_states.append(h_n)
            if len(outputs) == self._directions:
                x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
                outputs = []
                if dropout > 0 and layer < self.num_layers - 1:
                    seed = (call.seed, layer)
                    x = drop(x, dropout, seed, call.partition.start, call.first_sequence, call.sequences)
        self.last_solve, self.last_points = report, ends
        return x, torch.stack(final_states)

    def extra_repr(self) -> str:
        """Describe the module in one line, as `torch.nn` modules do."""
        names = [type(cell).__name__ for cell in self._stack]
        sizes = [f"{cell.input_size}, {cell.state_sizes[0]}" for cell in self._stack]
        layers = "; ".join(f"{name}({size})" for name, size in zip(names, sizes, strict=True))
        return (
            f"{layers}; batch_first={self.batch_first}, dropout={self.dropout}, "
            f"bidirectional={self.bidirectional}, solver={self.solver}{self._ranks_repr()}"
        )

    def _ranks_repr(self) -> str:
        ranks = self.grid.world.size
        return (f", ranks={ranks}" if ranks > 1 else "") + (
            f", grid={self.grid}" if self.grid.data.size > 1 else ""
        )

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _solves(self) -> list[tuple[int, bool]]:
        """Return layer and direction of each solve, in their order."""
        return list(itertools.product(range(self.num_layers), (False, True)[: self._directions]))

    def _weights(self) -> list[Tensor]:
        """Return the cells' parameters, solve by solve."""
        return [
            getattr(self, _parameter_name(name, layer, reverse))
            for layer, reverse in self._solves()
            for name in self._stack[layer].parameter_shapes()
        ]

    def _forward_packed(
        self,
        packed: PackedSequence,
        h0: States | None,
        lengths: object,
        guess: Sequence[Tensor | None] | None,
    ) -> tuple[PackedSequence, Any]:
        """Solve for sequences as `torch.nn.utils.rnn` packs them, and pack the output in the same way."""
        if lengths is not None:
            raise ValueError("a PackedSequence has its own lengths; expected lengths to be None")
        if self.communicator.size > 1:
            raise ValueError(
                f"a PackedSequence cannot be cut over {self.communicator.size} ranks; pass this rank's slice "
                "of the padded sequences, and their global lengths"
            )
        x, sizes = pad_packed_sequence(packed, batch_first=self.batch_first)
        output, h_n = self(x, h0, sizes, guess)
        return pack_like(packed, output, sizes, self.batch_first), h_n


def _parameter_name(name: str, layer: int, reverse: bool) -> str:
    return f"{name}_l{layer}{'_reverse' if reverse else ''}"


def _as_stack(cells: object) -> list[Cell]:
    """Return a cell for each layer; raises TypeError or ValueError for what is none."""
    given = list(cells) if isinstance(cells, list | tuple) else [cells]
    stack = [cell for cell in given if isinstance(cell, Cell)]
    if not given or len(stack) < len(given):
        kinds = [
            f"class {each.__name__}" if isinstance(each, type) else type(each).__name__ for each in given
        ]
        raise TypeError(f"cells are {kinds}; expected a seqbraid.Cell, or one for each layer")
    for cell in stack:
        require_cell(cell)
    return stack


def _check_stack(stack: Sequence[Cell], directions: int) -> None:
    """Raise ValueError where a layer does not take what the one below puts out."""
    sizes = stack[0].state_sizes
    for layer, cell in enumerate(stack):
        if cell.state_sizes != sizes:
            raise ValueError(
                f"the states of layer {layer} have sizes {cell.state_sizes}, those of layer 0 {sizes}; "
                "expected the same in all layers"
            )
        if layer and cell.input_size != directions * sizes[0]:
            raise ValueError(
                f"the cell of layer {layer} takes {cell.input_size} inputs; expected "
                f"{directions * sizes[0]}, what the layer below puts out"
            )


def _refuse_guess(guess: Any, solves: int, steps: int, solver: Serial | MGRIT, state: torch.Size) -> str:
    """Return what is wrong with a guess for so many steps of this rank, "" for nothing."""
    if guess is None or isinstance(solver, Serial) or solver.levels == 1:
        return ""
    if isinstance(guess, Tensor) or not hasattr(guess, "__len__"):
        return f"guess is a {type(guess).__name__}; expected `last_points` of an earlier call"
    if len(guess) != solves:
        return f"guess has {len(guess)} tensors; expected {solves}, one for each layer and direction"
    shape = (interval_count(steps, solver.coarsening_of(0)), *state)
    for number, each in enumerate(guess):
        if each is not None and tuple(each.shape) != shape:
            return f"guess {number} has shape {tuple(each.shape)}; expected {shape}"
    return ""


def _like(tensor: Tensor | None, state: Tensor) -> Tensor | None:
    return None if tensor is None else tensor.to(state)


def _looks(cell: Cell) -> object:
    """Return what tells a cell from others of its kind: its plain attributes."""
    plain = (bool, int, float, str, tuple)
    values = sorted((name, value) for name, value in vars(cell).items() if isinstance(value, plain))
    return type(cell).__qualname__, values


_warned_about_lonely_ranks = False


def _warn_about_lonely_ranks(kind: type[Recurrent]) -> None:
    global _warned_about_lonely_ranks
    if not _warned_about_lonely_ranks:
        _warned_about_lonely_ranks = True
        warnings.warn(
            f"seqbraid.{kind.__name__} was made with comm=None in a job of {launched_ranks()} ranks: each "
            "rank works on what it is given alone; pass comm=MPI.COMM_WORLD to split the sequence over them",
            UserWarning,
            # At the caller's line: the constructor of a subclass calls this one's.
            stacklevel=3 if kind is Recurrent else 4,
        )
