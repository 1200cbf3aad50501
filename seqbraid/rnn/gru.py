"""`seqbraid.GRU`: the module that takes the place of `torch.nn.GRU`."""

from __future__ import annotations

import torch

from seqbraid.cells import Cell, CellKind, GRUCell
from seqbraid.options import MGRIT, Serial
from seqbraid.rnn.recurrent import Recurrent

__all__ = ["GRU"]


class GRU(Recurrent):
    """A GRU whose sequence dimension is solved in parallel, with the parameters of `torch.nn.GRU`.

    Args:
        input_size: I, features a step.
        hidden_size: H, hidden units.
        num_layers: layers stacked, solved one after the other (default 1).
        bias: whether the layers have biases (default True).
        batch_first: x and output are (B, T, ·) instead of (T, B, ·) (default False).
        dropout: probability with which each value that a layer but the last puts out is set to zero in
            training (default 0.0). What is dropped depends on torch's seed on rank 0, not on the number of
            ranks.
        bidirectional: add to each layer one that runs from the sequence's end to its start (default False).
        device: where the parameters lie.
        dtype: float32 (default) or float64.
        cell: "classic", which is `torch.nn.GRU` at gamma = 1, or "implicit" (Moon & Cyr, ICLR 2022).
        gamma: step of the ODE that the cell discretises (default 1.0).
        solver: `Serial()` (default), exact, or `MGRIT(...)`, in parallel over intervals and ranks.
        comm: as of `seqbraid.Recurrent`.

    `module(x, h0=None, lengths=None)` returns output and h_n; that, and the attributes `grid`, `last_solve`
    and `last_points`, are those of `seqbraid.Recurrent`.

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
        for name, value in (
            ("input_size", input_size),
            ("hidden_size", hidden_size),
            ("num_layers", num_layers),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is {value!r}; expected a whole number of at least 1")
        outputs = hidden_size * (2 if bidirectional else 1)
        widths = [input_size if layer == 0 else outputs for layer in range(num_layers)]
        super().__init__(
            [GRUCell(width, hidden_size, cell, gamma, bias) for width in widths],
            batch_first,
            dropout,
            bidirectional,
            device,
            dtype,
            solver=solver,
            comm=comm,
        )
        self.hidden_size = hidden_size
        self.bias = bias
        self.cell: CellKind = cell
        self.gamma = float(gamma)

    @property
    def cells(self) -> list[Cell]:
        """The cell of each layer, with today's `cell` and `gamma`."""
        return [
            GRUCell(each.input_size, self.hidden_size, self.cell, self.gamma, self.bias)
            for each in self._stack
        ]

    def extra_repr(self) -> str:
        """Describe the module in one line, as `torch.nn` modules do."""
        return (
            f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, bias={self.bias}, "
            f"batch_first={self.batch_first}, dropout={self.dropout}, bidirectional={self.bidirectional}, "
            f"cell={self.cell!r}, gamma={self.gamma}, solver={self.solver}{self._ranks_repr()}"
        )
