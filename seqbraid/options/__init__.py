"""Options as dataclasses without torch, each declared once."""

from seqbraid.options.solver import MGRIT, Serial, solver_from_dict, solver_to_dict

__all__ = ["MGRIT", "Serial", "solver_from_dict", "solver_to_dict"]
