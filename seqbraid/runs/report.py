"""Runs side by side: as text for the terminal, and as CSV."""

from __future__ import annotations

import csv
import io
import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqbraid.runs.options import data_of_run, differing_options, flat_options, groups_by_seed
from seqbraid.runs.record import RunRecord
from seqbraid.runs.results import LINES, results_of_run
from seqbraid.text import WIDTH, distinct_names, fits, lines_of_table, shown, tables_by_rows

__all__ = ["csv_of_runs", "report_of_runs"]

_LENGTHS_OF_NAMES = (28, 20, 14)
_LONGEST_VALUE = 48
# Options whose names are those of results too.
_LABELS = {"epochs": "epochs planned"}


def report_of_runs(records: Sequence[RunRecord]) -> str:
    """Return the tables and notes, no line longer than 100 letters; every run has an epoch at least."""
    parts = [*_tables(records), *_spreads(records), *_notes(records)]
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _tables(records: Sequence[RunRecord]) -> list[list[str]]:
    """Return options and results: a column a run where that fits, else a line a run."""
    options = {
        _LABELS.get(name, name.replace("_", " ")): [shown(value, _LONGEST_VALUE) for value in values]
        for name, values in differing_options(records).items()
    }
    results = _results(records)
    same = [["No option differs."]] if len(records) > 1 and not options else []
    folders = [record.folder for record in records]
    for most in _LENGTHS_OF_NAMES:
        names = distinct_names(folders, most)
        rows = [["", *names]]
        rows += [[name, *values] for block in (options, results) for name, values in block.items()]
        if fits(rows):
            lines = lines_of_table(rows)
            return [lines[: 1 + len(options)], lines[1 + len(options) :]] if options else [*same, lines]
    names = distinct_names(folders, _LENGTHS_OF_NAMES[0])
    tables = same
    for block in (options, results):
        columns = [[name, *values] for name, values in block.items()]
        if columns:
            tables += tables_by_rows([["", *names], *columns])
    return tables


def _results(records: Sequence[RunRecord]) -> dict[str, list[str]]:
    """Return by name the lines of results that any run has."""
    results = [results_of_run(record) for record in records]
    lines = {name: [write(result) for result in results] for name, write in LINES.items()}
    return {name: words for name, words in lines.items() if set(words) != {"-"}}


def _spreads(records: Sequence[RunRecord]) -> list[list[str]]:
    """Return a table of the accuracies of runs that differ in the seed alone, empty without such runs."""
    rows = [["runs that differ in the seed alone", "seeds", "epochs", "mean", "max - min", "deviation"]]
    for group in groups_by_seed(records):
        runs = [records[index] for index in group]
        accuracies = [run.last("test_accuracy") for run in runs]
        known = np.array([accuracy for accuracy in accuracies if accuracy is not None])
        epochs = sorted({len(run.epochs) for run in runs})
        if len(known) == len(runs):
            names = distinct_names([record.folder for record in records], 20)
            rows.append(
                [
                    shown(", ".join(names[index] for index in group), 44),
                    shown(", ".join(str(run.options["training"].get("seed")) for run in runs), 16),
                    "-".join(map(str, epochs[:1] + epochs[1:][-1:])),
                    f"{known.mean():.4f}",
                    f"{np.ptp(known):.4f}",
                    f"{known.std(ddof=1):.4f}",
                ]
            )
    title = "test accuracy after the last epoch:"
    return [[title, *lines_of_table(rows)]] if len(rows) > 1 else []


def _notes(records: Sequence[RunRecord]) -> list[list[str]]:
    """Return which data each run had, empty where it was the same."""
    names = distinct_names([record.folder for record in records], _LENGTHS_OF_NAMES[0])
    runs: dict[tuple[str, str | None, str], list[str]] = {}
    for record, name in zip(records, names, strict=True):
        runs.setdefault(data_of_run(record), []).append(name)
    if len(runs) == 1:
        return []
    paths = dict.fromkeys(path for path, _, _ in runs)
    short = dict(zip(paths, distinct_names([Path(path) for path in paths], 40), strict=True))
    lines = ["The runs had different data:"]
    for (path, split, marks), of_it in runs.items():
        label = short[path] + ("" if split is None else f", split {shown(split, 20)}")
        if any(other != marks for place, name, other in runs if (place, name) == (path, split)):
            label += f" (divided otherwise: {marks[:8]})"
        lines += textwrap.wrap(
            f"{label}: {', '.join(of_it)}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return [lines]


def csv_of_runs(records: Sequence[RunRecord]) -> str:
    """Return a line a run, after one with the names of all options and results that any of them has."""
    options, results = [], []
    for record in records:
        data, split, _ = data_of_run(record)
        named = {f"option_{name}": _cell(value) for name, value in flat_options(record).items()}
        options.append({"run": record.folder, "data": data, "split": split, **named})
        results.append(results_of_run(record))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    names = [list(dict.fromkeys(name for row in block for name in row)) for block in (options, results)]
    writer.writerow([*names[0], *names[1]])
    for option, result in zip(options, results, strict=True):
        writer.writerow([*map(option.get, names[0]), *map(result.get, names[1])])
    return table.getvalue()


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
