"""What differs between the options of runs, and which runs differ in the seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from typing import Any

from seqbraid.runs.record import MGRIT_DEFAULTS, RunRecord, solver_words
from seqbraid.train import ModelOptions, TrainingOptions

__all__ = ["data_of_run", "differing_options", "flat_options", "groups_by_seed"]

# Where features came from, which says nothing of what they are.
_ORIGIN = frozenset({"source", "source_sha256", "weights"})
# What the words for a solver tell.
_IN_WORDS = frozenset(
    {
        "coarsening",
        "levels",
        "forward_iterations",
        "backward_iterations",
        "relaxation",
        "coarse",
        "tolerance",
    }
)


def flat_options(record: RunRecord) -> dict[str, Any]:
    """Return all options of a run but its data, by name.

    Those of model, solver and training that it does not name, since it is older than they are, are as by
    default. Features' options begin with `features.`, those of the serial solver are left out.
    """
    options = record.options
    solver = options["solver"]
    parts: list[dict[str, Any]] = [
        {**_defaults(ModelOptions), **options["model"]},
        {"solver": solver.get("solver")},
        {**(MGRIT_DEFAULTS if solver.get("solver") == "mgrit" else {}), **solver},
        {"pad": "lengths", **_defaults(TrainingOptions), **options["training"]},
        {"validation_fraction": options.get("arguments", {}).get("validation_fraction")},
        {"ranks": options.get("ranks"), "data_ranks": options.get("data_ranks", 1)},
        {"threads": options.get("threads")},
        {f"features.{name}": value for name, value in options["features"].items() if name not in _ORIGIN},
        {"seqbraid": options.get("seqbraid")},
    ]
    return {name: value for part in parts for name, value in part.items()}


def differing_options(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return by name the options that are not the same in all runs, with a word for each run.

    A solver is one option in a few words, beside what these do not tell.
    """
    runs = [flat_options(record) for record in records]
    serial = [run.get("solver") != "mgrit" for run in runs]
    for run, record in zip(runs, records, strict=True):
        run["solver"] = solver_words(record.options["solver"])
    differing = {}
    for name in dict.fromkeys(name for run in runs for name in run):
        if name in _IN_WORDS:
            continue
        # The serial solver has none of MGRIT's options, and so none that differ.
        values = {
            _key(run.get(name))
            for run, exact in zip(runs, serial, strict=True)
            if not (exact and name in MGRIT_DEFAULTS)
        }
        if len(values) > 1:
            differing[name] = [_word(run.get(name)) for run in runs]
    return differing


def data_of_run(record: RunRecord) -> tuple[str, str | None, str]:
    """Return the path of a run's data, the split, and what tells one division of the clips from another."""
    options = record.options
    marks = options.get("split_sha256", {}).get("marks", "")
    return str(options.get("data") or "unknown"), options.get("split"), str(marks)


def groups_by_seed(records: Sequence[RunRecord]) -> list[list[int]]:
    """Return the indices of runs that differ in the seed alone, a list for each two or more of them."""
    groups: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        others = {name: value for name, value in flat_options(record).items() if name != "seed"}
        groups.setdefault(_key([others, data_of_run(record)]), []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def _defaults(kind: type[Any]) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _word(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else _key(value)
