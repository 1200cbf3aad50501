"""`seqbraid.GRU`: the module that takes the place of `torch.nn.GRU`."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from seqbraid.cells import CellKind
from seqbraid.comm import Communicator, as_grid, launched_ranks, sum_in_one_message
from seqbraid.mgrit import MGRIT, Serial, SolveReport
from seqbraid.rnn.agreement import Call, agree_on_call
from seqbraid.rnn.coarse import resolved
from seqbraid.rnn.divergence import Divergence
from seqbraid.rnn.dropout import drop
from seqbraid.rnn.function import LayerFunction, LayerPlan
from seqbraid.rnn.weight_sums import WeightSums

__all__ = ["GRU", "sum_gradients"]


class GRU(nn.Module):
    """A GRU whose sequence dimension is solved in parallel, with the parameters of `torch.nn.GRU`.

    Args:
        input_size: I, features a step.
        hidden_size: H, hidden units.
        num_layers: layers stacked, solved one after the other (default 1).
        bias: whether the layers have biases (default True).
        batch_first: x and output are (B, T, ·) instead of (T, B, ·) (default False).
        dropout: share of each layer's outputs, but the last's, that is set to zero in training (default 0.0).
            What is dropped depends on torch's seed on rank 0, not on the number of ranks.
        bidirectional: add to each layer one that runs from the sequence's end to its start (default False).
        device: where the parameters lie.
        dtype: float32 (default) or float64.
        cell: "classic", which is `torch.nn.GRU` at gamma = 1, or "implicit" (Moon & Cyr, ICLR 2022).
        gamma: step of the ODE that the cell discretises (default 1.0).
        solver: `Serial()` (default), exact, or `MGRIT(...)`, in parallel over intervals and ranks.
        comm: None (one process), an mpi4py communicator, or a `seqbraid.comm.Communicator`. Each rank then
            holds the slice of the sequence that `seqbraid.local_slice` gives it, and the same weights. With a
            `seqbraid.ProcessGrid` the ranks along its sequence do so, for the sequences of their group, of
            which there may be none; the gradients of the weights are sums over all groups. So a mean loss is
            a sum over the group's sequences divided by the global batch.

    Attributes:
        grid: the ranks as a `ProcessGrid`.
        last_solve: `SolveReport` of the latest forward, and of its backward once that has run.

    `module(x, h0=None, lengths=None)` returns output and h_n, see `forward`; with `lengths`, sequences of
    unequal length need no packing. Under autocast the solve keeps the weights' precision.

    Parameters have the names and shapes of `torch.nn.GRU`, so `load_state_dict` works both ways, and the
    same seed draws the same weights. Raises ValueError or TypeError for arguments outside these.

    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        cell: CellKind = "classic",
        gamma: float = 1.0,
        solver: Serial | MGRIT | None = None,
        comm: object = None,
    ) -> None:
        super().__init__()
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        if cell not in get_args(CellKind):
            raise ValueError(f"cell is {cell!r}; expected one of {get_args(CellKind)}")
        if not gamma > 0 or not math.isfinite(gamma):
            raise ValueError(f"gamma is {gamma!r}; expected a positive number")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout is {dropout!r}; expected at least 0 and less than 1")
        if dropout > 0.0 and num_layers == 1:
            warnings.warn("dropout acts between layers, and there is only one", UserWarning, stacklevel=2)
        if dtype not in (None, torch.float32, torch.float64):
            raise ValueError(f"dtype is {dtype}; expected torch.float32 or torch.float64")
        solver = Serial() if solver is None else solver
        if not isinstance(solver, (Serial, MGRIT)):
            raise TypeError(f"solver is a {type(solver).__name__}; expected seqbraid.Serial() or MGRIT(...)")
        resolved(solver)  # raises
        if comm is None and launched_ranks() > 1:
            _warn_about_lonely_ranks()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.dropout = float(dropout)
        self.bidirectional = bidirectional
        self.cell: CellKind = cell
        self.gamma = float(gamma)
        self.solver: Serial | MGRIT = solver
        self.grid = as_grid(comm)
        self.last_solve = SolveReport()
        directions = self._directions()
        for layer, reverse in itertools.product(range(num_layers), directions):
            inputs = input_size if layer == 0 else hidden_size * len(directions)
            shapes: dict[str, tuple[int, ...]]
            shapes = {"weight_ih": (3 * hidden_size, inputs), "weight_hh": (3 * hidden_size, hidden_size)}
            if bias:
                shapes |= {"bias_ih": (3 * hidden_size,), "bias_hh": (3 * hidden_size,)}
            for name, shape in shapes.items():
                parameter = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
                self.register_parameter(_parameter_name(name, layer, reverse), parameter)
        self.reset_parameters()

    @property
    def communicator(self) -> Communicator:
        """The ranks that share the steps of this rank's sequences."""
        return self.grid.sequence

    def reset_parameters(self) -> None:
        """Draw every parameter uniformly from -1/sqrt(H) to 1/sqrt(H), as `torch.nn.GRU` does."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)

    def flatten_parameters(self) -> None:
        """Do nothing: code written for `torch.nn.GRU` calls it; our parameters need no common buffer."""

    def forward(
        self,
        x: Tensor | PackedSequence,
        h0: Tensor | None = None,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Any, Tensor]:
        """Solve the recurrence; collective over the ranks of `comm`, as is the backward pass.

        On a `ProcessGrid`, B is the number of this group's sequences, and what is said to be equal on all
        ranks is so on those of its group.

        Args:
            x: this rank's slice (T, B, I), or (B, T, I) with batch_first, or (T, I) without a batch. Where no
                sequence is cut also a `PackedSequence`.
            h0: (layers * directions, B, H), without a batch (layers * directions, H), equal on all ranks;
                zeros where None. Its gradient is equal on all ranks too.
            lengths: (B,) whole numbers, each sequence's global number of steps, equal on all ranks.
                The states stand still past a sequence's end, and its outputs are zero there.

        Returns:
            output (T, B, directions * H), this rank's slice of the last layer's states, in the form of x; and
            h_n (layers * directions, B, H), the states at each sequence's true end (of a reverse direction:
            at its start), equal on every rank.

        Raises:
            ValueError: for shapes or lengths that do not fit, slices not cut by `local_slice`, nan or inf,
                weights or h0 that are not the same on every rank.
            TypeError: for a dtype or device other than the weights'.
            SolverDivergedError: where MGRIT diverges and `on_divergence` is "raise".

        """
        if isinstance(x, PackedSequence):
            return self._forward_packed(x, h0, lengths)
        batched = x.dim() == 3
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            leading = "B, T" if self.batch_first else "T, B"
            raise ValueError(
                f"x has shape {tuple(x.shape)}; expected ({leading}, {self.input_size}), or without a batch "
                f"(T, {self.input_size})"
            )
        weight = self.get_parameter("weight_hh_l0")
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(
                weight.dtype
            )  # what an autocast layer before this one made; the solve keeps its precision
        if x.dtype != weight.dtype or x.device != weight.device:
            raise TypeError(
                f"x is {x.dtype} on {x.device}, but the weights are {weight.dtype} on {weight.device}"
            )
        if not batched:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        batch = x.shape[1]
        if batch == 0 and self.grid.data.size == 1:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected at least one sequence")
        initial = self._initial_states(h0, batched, x)
        if batch == 0:
            # Other groups have sequences, and wait for this one's part in their sums: it solves for zeros.
            x, initial = nn.functional.pad(x, (0, 0, 0, 1)), nn.functional.pad(initial, (0, 0, 0, 1))
        length_list = _as_list(lengths)
        dropout = self.dropout if self.training and self.num_layers > 1 else 0.0
        call = agree_on_call(
            self.grid,
            x,
            batch,
            length_list,
            self.solver.slice_multiple,
            dropout > 0,
            self.parameters(),
            initial,
        )
        if call.valid is not None and not call.padding_is_finite:
            # What lies past a sequence's end may be anything, and 0 * nan is not 0.
            x = x.masked_fill(~call.valid.unsqueeze(-1), 0.0)

        with torch.autocast(x.device.type, enabled=False):
            x, h_n = self._solve_layers(x, initial, call, dropout)
        if batch == 0:
            x, h_n = x[:, :0], h_n[:, :0]
        if not batched:
            return x.squeeze(1), h_n.squeeze(1)
        return (x.transpose(0, 1) if self.batch_first else x), h_n

    def _solve_layers(self, x: Tensor, initial: Tensor, call: Call, dropout: float) -> tuple[Tensor, Tensor]:
        """Solve layer by layer; x (T, B, I) is this rank's slice, `initial` (layers * directions, B, H)."""
        report = SolveReport()
        solver = resolved(self.solver)
        divergence = Divergence(solver, self.grid)
        sums = WeightSums.of(self.grid, self.num_layers, divergence)
        directions = self._directions()
        solves = list(itertools.product(range(self.num_layers), directions))
        weights = [weight for solve in solves for weight in self._layer_parameters(*solve)]
        places: list[int | None] = [None] * len(weights)
        if sums is not None:
            (x, initial, *weights), (_, _, *places) = sums.gate([x, initial, *weights])
        final_states: list[Tensor] = []
        outputs: list[Tensor] = []
        for number, (layer, reverse) in enumerate(solves):
            plan = LayerPlan(
                layer,
                self.cell,
                self.gamma,
                solver,
                self.grid,
                call.partition,
                call.valid,
                report,
                divergence,
                reverse,
                torch.is_grad_enabled(),
                sums,
                places[4 * number : 4 * number + 4],
            )
            parameters = weights[4 * number : 4 * number + 4]
            output, h_n = LayerFunction.apply(x, initial[number], *parameters, plan)  # type: ignore[no-untyped-call]
            outputs.append(output)
            final_states.append(h_n)
            if len(outputs) == len(directions):
                x = outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-1)
                outputs = []
                if dropout > 0 and layer < self.num_layers - 1:
                    seed = (call.seed, layer)
                    x = drop(x, dropout, seed, call.partition.start, call.first_sequence, call.sequences)
        divergence.exchange()
        self.last_solve = report
        return x, torch.stack(final_states)

    def extra_repr(self) -> str:
        """Describe the module in one line, as `torch.nn` modules do."""
        ranks = self.grid.world.size
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, bidirectional={self.bidirectional}, "
            f"cell={self.cell!r}, gamma={self.gamma}, solver={self.solver}"
            + (f", ranks={ranks}" if ranks > 1 else "")
            + (f", grid={self.grid}" if self.grid.data.size > 1 else "")
        )

    def _directions(self) -> tuple[bool, ...]:
        """Return for each direction of a layer whether it runs in reverse."""
        return (False, True) if self.bidirectional else (False,)

    def _layer_parameters(self, layer: int, reverse: bool) -> tuple[Tensor | None, ...]:
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        return tuple(getattr(self, _parameter_name(name, layer, reverse), None) for name in names)

    def _initial_states(self, h0: Tensor | None, batched: bool, x: Tensor) -> Tensor:
        layers = self.num_layers * len(self._directions())
        shape = (layers, x.shape[1], self.hidden_size)
        if h0 is None:
            return x.new_zeros(shape)
        expected = shape if batched else (layers, self.hidden_size)
        if tuple(h0.shape) != expected:
            raise ValueError(f"h0 has shape {tuple(h0.shape)}; expected {expected}")
        if h0.dtype != x.dtype or h0.device != x.device:
            raise TypeError(f"h0 is {h0.dtype} on {h0.device}, but x is {x.dtype} on {x.device}")
        if not torch.isfinite(h0).all():
            raise ValueError("h0 holds nan or inf")
        return h0.reshape(shape)

    def _forward_packed(
        self, packed: PackedSequence, h0: Tensor | None, lengths: object
    ) -> tuple[PackedSequence, Tensor]:
        """Solve for sequences as `torch.nn.utils.rnn` packs them, and pack the output in the same way."""
        if lengths is not None:
            raise ValueError("a PackedSequence has its own lengths; expected lengths to be None")
        if self.communicator.size > 1:
            raise ValueError(
                f"a PackedSequence cannot be cut over {self.communicator.size} ranks; pass this rank's slice "
                "of the padded sequences, and their global lengths"
            )
        x, sizes = pad_packed_sequence(packed, batch_first=self.batch_first)
        output, h_n = self(x, h0, sizes)
        if packed.sorted_indices is not None:
            output = output.index_select(0 if self.batch_first else 1, packed.sorted_indices)
            sizes = sizes[packed.sorted_indices.cpu()]
        data = pack_padded_sequence(output, sizes, batch_first=self.batch_first).data
        return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices), h_n


def _parameter_name(name: str, layer: int, reverse: bool) -> str:
    return f"{name}_l{layer}{'_reverse' if reverse else ''}"


def _as_list(lengths: Tensor | Sequence[int] | None) -> list[int] | None:
    if lengths is None:
        return None
    values = lengths.tolist() if isinstance(lengths, Tensor) else list(lengths)
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise TypeError(f"lengths are {values!r}; expected one whole number for each sequence")
    return values


_warned_about_lonely_ranks = False


def _warn_about_lonely_ranks() -> None:
    global _warned_about_lonely_ranks
    if not _warned_about_lonely_ranks:
        _warned_about_lonely_ranks = True
        warnings.warn(
            f"seqbraid.GRU was made with comm=None in a job of {launched_ranks()} ranks: each rank works on "
            "what it is given alone; pass comm=MPI.COMM_WORLD to split the sequence over them",
            UserWarning,
            stacklevel=3,
        )


def sum_gradients(module: nn.Module, comm: object) -> None:
    """Add up over the ranks of `comm` the gradients of a module that saw only a part, in one message.

    A mean loss must be divided by the number of all sequences, on every rank. Which ranks saw parts:

    - an encoder upstream of a `GRU`, or a head on its per-step output, saw a slice of this group's sequences:
      sum over all ranks, `sum_gradients(encoder, comm)`, where `comm` is what the `GRU` has.
    - a head on h_n saw this group's sequences, and has the same gradient on all ranks of the group: with an
      mpi4py communicator or a `Communicator` it must not be summed, with a `ProcessGrid` over the groups,
      `sum_gradients(head, grid.data)`.
    - a `GRU` itself: never, its gradients come summed over all ranks.

    `comm` is a `ProcessGrid`, all ranks of which are meant, or whatever else a `GRU` takes. Collective;
    parameters without a gradient count as zero.
    """
    communicator = as_grid(comm).world
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    for dtype in sorted({gradient.dtype for gradient in gradients}, key=str):
        group = [gradient for gradient in gradients if gradient.dtype == dtype]
        sum_in_one_message(group, communicator, "sum_gradients")
