"""How a classifier does, as lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from seqbraid.train.evaluation import Evaluation

__all__ = ["line_of_evaluation", "table_of_classes", "table_of_inferences"]


def line_of_evaluation(result: Evaluation, solver: str) -> str:
    """Return one line on the inference by a solver, "serial" or "mgrit"."""
    top5 = "" if result.top5 is None else f"  top-5 {result.top5:.4f}"
    residual = f"  residual {result.residual:.1e}" if solver == "mgrit" else ""
    return (
        f"accuracy {result.accuracy:.4f}  loss {result.loss:.4f}{top5}  "
        f"{result.sequences} sequences  {result.seconds:.1f} s{residual}"
    )


def table_of_inferences(found: Mapping[str, Evaluation]) -> str:
    """Return one line for each solver of the inference."""
    lines = []
    for name, result in found.items():
        top5 = "" if result.top5 is None else f"  top-5 {result.top5:.4f}"
        residual = f"  residual {result.residual:.1e}" if name == "mgrit" else ""
        lines.append(
            f"{name:<6} inference: accuracy {result.accuracy:.4f}{top5}  loss {result.loss:.4f}  "
            f"{result.seconds:.1f} s{residual}"
        )
    return "\n".join(lines)


def table_of_classes(result: Evaluation, names: Sequence[str]) -> str:
    """Return one line for each class: recognised, sequences, and what it is most often taken for."""
    width = max(map(len, names))
    lines = []
    for index, (name, fraction) in enumerate(zip(names, result.accuracy_of_classes.tolist(), strict=True)):
        row = result.confusion[index].copy()
        count = int(row.sum())
        row[index] = 0
        mistaken = f"  {row.max()} taken for {names[int(row.argmax())]}" if row.any() else ""
        accuracy = "none here" if count == 0 else f"{fraction:.4f} of {count}"
        lines.append(f"  {name:<{width}}  {accuracy}{mistaken}")
    return "\n".join(lines)
