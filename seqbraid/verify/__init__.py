"""How far MGRIT is from the serial solution: errors of states and gradients, and the table of them."""

from seqbraid.verify.measure import Case, Errors, solve, verify
from seqbraid.verify.table import lines_of_errors

__all__ = ["Case", "Errors", "lines_of_errors", "solve", "verify"]
