"""The errors of several coarse propagators as a table."""

from __future__ import annotations

from collections.abc import Sequence

from seqbraid.verify.measure import Errors

__all__ = ["lines_of_errors"]


def lines_of_errors(names: Sequence[str], table: Sequence[Sequence[Errors]]) -> list[str]:
    """Return the lines of a table, a row for each propagator of these names and each number of iterations."""
    quantities = list(table[0][0].of)
    width = max(10, *map(len, names))
    header = ["propagator".ljust(width), "it", *quantities, "forward", "backward"]
    widths = [width, 3] + [max(8, len(word)) for word in header[2:]]
    lines = ["  ".join(word.rjust(w) for word, w in zip(header, widths, strict=True))]
    for name, row in zip(names, table, strict=True):
        for errors in row:
            numbers = [errors.of[quantity] for quantity in quantities]
            numbers += [errors.forward_residual, errors.backward_residual]
            words = [name.ljust(width), str(errors.iterations), *(f"{number:.1e}" for number in numbers)]
            line = "  ".join(word.rjust(w) for word, w in zip(words, widths, strict=True))
            lines.append(line + ("  diverged" if errors.diverged else ""))
    return lines
