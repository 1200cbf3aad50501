"""What a run folder holds, in words."""

from __future__ import annotations

from pathlib import Path

from seqbraid.text import count
from seqbraid.train import RunFolder

__all__ = ["describe_run"]


def describe_run(path: Path) -> list[tuple[str, str]]:
    """Return names and values of a run; raises `DataError` where `path` is no run folder."""
    run_folder = RunFolder(path)
    options = run_folder.options()
    rows = [(name, str(value)) for name, value in options.items() if not isinstance(value, (dict, list))]
    rows.append(("classes", ", ".join(options["class_names"])))
    for group in ("features", "model", "solver", "training"):
        rows += [(f"{group} {name}", str(value)) for name, value in options[group].items()]
    for epoch in run_folder.metrics():
        rows.append(
            (
                f"epoch {epoch['epoch']}",
                f"loss {epoch['train_loss']:.4f}, test accuracy {epoch['test_accuracy']:.4f}",
            )
        )
    if updates := run_folder.checkpoints(keep=1).updates():
        rows.append(("checkpoints", f"after {count(updates[-1], 'update')}, {len(updates)} kept"))
    return rows
