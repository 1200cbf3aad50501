"""Accuracy over seeds: `torch.nn.GRU`, both cells trained serially, and both with MGRIT on several ranks.

All runs of a seed start from the same weights and see the same batches. What counts is the accuracy on the
test part after the last epoch. The weights that were trained serially are then measured with MGRIT, those
trained with MGRIT serially. OUT keeps every run: what was interrupted continues with the first run that
lacks an epoch, and further seeds, splits or settings of MGRIT add theirs. The tables of the seeds so far
are in OUT after each seed, named after the setting (.md, and .json with all figures). The exit code is 1
where a mean of MGRIT is too far from its serial twin's, over a split or over all.

example:
  python scripts/accuracy_table.py har.npz table/ --seeds 0 1 2 --ranks 4
  python scripts/accuracy_table.py features/ table/ --splits 1 2 3 --epochs 20 --batch-size 50 \\
      --mgrit "--coarsening 4 --forward-iterations 2 --backward-iterations 2"
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

from seqbraid import __version__
from seqbraid.cli.arguments import add_options, positive, whole
from seqbraid.files import write_text
from seqbraid.options import ModelOptions, SequenceOptions, TrainingOptions, options_of
from seqbraid.options.commands import mgrit_options

CELLS = ("classic", "implicit")
TRAINING = ("hidden_size", "num_layers", "epochs", "batch_size", "lr", "pad")


@dataclass(frozen=True)
class Run:
    """A finished run: accuracies on test (0 to 1), of the last epoch where `inference` names no solver.

    `solver` is what trained it, "torch", "serial" or "mgrit"; `inference` has its last weights' accuracy by
    solver; `seconds` are an epoch's, the median; residuals are the largest of the last epoch.
    """

    cell: str
    solver: str
    split: str | None
    seed: int
    accuracy: float
    highest: float
    train_loss: float
    seconds: float
    forward_residual: float | None
    backward_residual: float | None
    inference: dict[str, float]


class Runs:
    """Trains what is missing in `options.out`, and reads the rest."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._mgrit = ["--solver", "mgrit", *options.mgrit]

    def of_seed(self, seed: int) -> Iterator[Run]:
        """Give all runs of a seed."""
        for split in self._options.splits or [None]:
            yield self._of_torch(split, seed)
            for solver in ("serial", "mgrit"):
                for cell in CELLS:
                    yield self._of_seqbraid(cell, solver, split, seed)

    def _of_torch(self, split: str | None, seed: int) -> Run:
        folder = self._folder(split, seed) / "torch"
        if not self._complete(folder):
            folder.mkdir(parents=True, exist_ok=True)
            script = str(Path(__file__).with_name("train_torch_gru.py"))
            metrics = ["--json", str(folder / "metrics.jsonl")]
            execute(["python", script, str(self._options.data), *self._training(split, seed), *metrics])
        return read_run(folder, "classic", "torch", split, seed, {})

    def _of_seqbraid(self, cell: str, solver: str, split: str | None, seed: int) -> Run:
        name = "serial" if solver == "serial" else setting_name(self._options)
        folder = self._folder(split, seed) / f"{cell}-{name}"
        if not self._complete(folder):
            for outdated in folder.glob("inference-*.json"):
                outdated.unlink()
            words = ["train", str(self._options.data), *self._training(split, seed), "--cell", cell]
            execute(self._command(solver, [*words, "--output", str(folder), "--overwrite"]))
        other = "mgrit" if solver == "serial" else "serial"
        result = folder / f"inference-{setting_name(self._options)}.json"
        if not result.exists():
            words = ["evaluate", str(folder), str(self._options.data)]
            printed = execute(self._command(other, words), captured=True)
            write_text(result, json.dumps({other: accuracy_of(printed)}) + "\n")
        return read_run(folder, cell, solver, split, seed, json.loads(result.read_text()))

    def _command(self, solver: str, words: list[str]) -> list[str]:
        if solver == "serial":
            return ["seqbraid", *words, "--solver", "serial", "--threads", "1"]
        launch = ["seqbraid", "launch", "-n", str(self._options.ranks), "--threads", "1", "--"]
        return [*launch, *words, *self._mgrit]

    def _training(self, split: str | None, seed: int) -> list[str]:
        given = {name: str(value) for name, value in training_of(self._options).items()}
        words = [word for name, value in given.items() for word in ("--" + name.replace("_", "-"), value)]
        return [*words, "--seed", str(seed), *([] if split is None else ["--split", split])]

    def _folder(self, split: str | None, seed: int) -> Path:
        out: Path = self._options.out
        return (out if split is None else out / f"split-{split}") / f"seed-{seed}"

    def _complete(self, folder: Path) -> bool:
        metrics = folder / "metrics.jsonl"
        return metrics.exists() and len(metrics.read_text().splitlines()) == self._options.epochs


def execute(words: list[str], captured: bool = False) -> str:
    """Show a command and run it from this source; return its output where `captured`; a failure ends all."""
    print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
    program = {"seqbraid": [sys.executable, "-m", "seqbraid.cli.main"], "python": [sys.executable]}[words[0]]
    done = subprocess.run(
        [*program, *words[1:]],
        stdout=subprocess.PIPE if captured else sys.stderr,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(f"accuracy_table: exit code {done.returncode} from: {shlex.join(words)}")
    return done.stdout if captured else ""


def accuracy_of(printed: str) -> float:
    """Return the accuracy that `seqbraid evaluate` printed, whole sequences of as many as it says."""
    found = re.search(r"accuracy (\d\.\d+) .* (\d+) sequences", printed)
    if found is None:
        sys.exit(f"accuracy_table: `seqbraid evaluate` printed no accuracy: {printed!r}")
    return round(float(found[1]) * int(found[2])) / int(found[2])


def read_run(
    folder: Path, cell: str, solver: str, split: str | None, seed: int, inference: dict[str, float]
) -> Run:
    """Return the run whose metrics.jsonl lies in a folder, with what other solvers made of its weights."""
    epochs: list[dict[str, Any]] = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    last = epochs[-1]
    return Run(
        cell,
        solver,
        split,
        seed,
        last["test_accuracy"],
        max(epoch["test_accuracy"] for epoch in epochs),
        last["train_loss"],
        median(epoch["train_seconds"] + epoch["test_seconds"] for epoch in epochs),
        last["forward_residual"] if solver == "mgrit" else None,
        last["backward_residual"] if solver == "mgrit" else None,
        {solver: last["test_accuracy"], **inference},
    )


Value = Callable[[Run], float]


def over_seeds(runs: Sequence[Run], cell: str, solver: str, value: Value) -> list[float]:
    """Return a value of one kind of run for each seed, in their order; over several splits, their mean."""
    chosen = [run for run in runs if (run.cell, run.solver) == (cell, solver)]
    seeds = dict.fromkeys(run.seed for run in chosen)
    return [mean(value(run) for run in chosen if run.seed == seed) for seed in seeds]


def groups(runs: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """Give the runs of each split with its name, then all; without splits, all alone."""
    splits = list(dict.fromkeys(run.split for run in runs))
    for split in splits if len(splits) > 1 else []:
        yield f"split {split}", [run for run in runs if run.split == split]
    yield "all", list(runs)


def accuracy_table(runs: Sequence[Run], ranks: int) -> str:
    """Return the accuracies of all kinds of training over the seeds, as a table in markdown.

    The deviation is that of the seeds' accuracies, by the number of seeds less one.
    """
    parallel = f"MGRIT on {ranks} rank{'s' if ranks > 1 else ''}"
    seeds = dict.fromkeys(run.seed for run in runs)
    lines = [
        ["", "", *(f"seed {seed}" for seed in seeds), "mean", "deviation", "from serial", "seconds an epoch"]
    ]
    for group, members in groups(runs):
        twins: dict[str, float] = {}
        for cell, solver in (("classic", "torch"), *((c, s) for s in ("serial", "mgrit") for c in CELLS)):
            values = over_seeds(members, cell, solver, lambda run: run.accuracy)
            if solver == "serial":
                twins[cell] = mean(values)
            name = {"torch": "`torch.nn.GRU`", "serial": f"{cell}, serial"}
            lines.append(
                [
                    group,
                    name.get(solver, f"{cell}, {parallel}"),
                    *(f"{value:.4f}" for value in values),
                    f"{mean(values):.4f}",
                    f"{stdev(values):.4f}" if len(values) > 1 else "",
                    f"{mean(values) - twins[cell]:+.4f}" if solver == "mgrit" else "",
                    f"{mean(over_seeds(members, cell, solver, lambda run: run.seconds)):.2f}",
                ]
            )
    return markdown(lines)


def inference_table(runs: Sequence[Run]) -> str:
    """Return the mean accuracies of the last weights by both solvers, as a table in markdown."""
    lines = [["", "cell", "weights trained", "serial inference", "MGRIT inference", "largest difference"]]
    for group, members in groups(runs):
        for cell in CELLS:
            for solver, trained in (("serial", "serially"), ("mgrit", "with MGRIT")):
                apart = [
                    abs(run.inference["mgrit"] - run.inference["serial"])
                    for run in members
                    if (run.cell, run.solver) == (cell, solver)
                ]
                means = [f"{inference_mean(members, cell, solver, by):.4f}" for by in ("serial", "mgrit")]
                lines.append([group, cell, trained, *means, f"{max(apart):.4f}"])
    return markdown(lines)


def inference_mean(runs: Sequence[Run], cell: str, trained: str, by: str) -> float:
    """Return the mean accuracy of the weights that one solver trained, as another finds it."""
    return mean(over_seeds(runs, cell, trained, lambda run: run.inference[by]))


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table whose first line is the header; a first column that says nothing is left out."""
    column = 0 if len({line[0] for line in lines[1:]}) > 1 else 1
    rows = ["| " + " | ".join(line[column:]) + " |\n" for line in lines]
    return "".join([rows[0], "|" + " --- |" * (len(lines[0]) - column) + "\n", *rows[1:]])


def too_far(runs: Sequence[Run], within: float) -> list[str]:
    """Return a sentence for each pair of means that should be `within` each other and are not."""
    pairs = (
        ("serial", "serial", "mgrit", "mgrit"),
        ("serial", "mgrit", "mgrit", "serial"),
        ("serial", "serial", "serial", "mgrit"),
        ("mgrit", "mgrit", "mgrit", "serial"),
    )
    said = {"serial": "serially", "mgrit": "with MGRIT"}
    problems = []
    for group, members in groups(runs):
        for cell in CELLS:
            for trained, by, other_trained, other_by in pairs:
                one = inference_mean(members, cell, trained, by)
                other = inference_mean(members, cell, other_trained, other_by)
                # Means of the same accuracies may differ in the last bit.
                if abs(one - other) > within + 1e-12:
                    problems.append(
                        f"{group}, {cell} cell: {one:.4f} trained {said[trained]} and measured {said[by]}, "
                        f"{other:.4f} trained {said[other_trained]} and measured {said[other_by]}"
                    )
    return problems


def setting_name(options: argparse.Namespace) -> str:
    """Return the ranks and options of MGRIT as a part of file names."""
    return re.sub(r"[^\w.]+", "-", f"mgrit-{options.ranks}-ranks-{' '.join(options.mgrit)}").rstrip("-")


def training_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that all runs share."""
    return {name: getattr(options, name) for name in TRAINING}


def require_same_training(options: argparse.Namespace) -> None:
    """Keep the data and the training options in OUT; a table of others ends the script."""
    asked = {"data": str(options.data.resolve()), **training_of(options)}
    path = options.out / "options.json"
    options.out.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_text(path, json.dumps(asked, indent=2) + "\n")
        return
    there = json.loads(path.read_text())
    for name, value in asked.items():
        if there.get(name) != value:
            sys.exit(
                f"accuracy_table: {options.out} holds runs with {name} {there.get(name)}, not {value}; "
                "choose another folder"
            )


def report(options: argparse.Namespace, runs: Sequence[Run]) -> tuple[str, list[str]]:
    """Write the tables and figures of the runs so far; return the tables, and what is too far apart."""
    text = f"{accuracy_table(runs, options.ranks)}\n{inference_table(runs)}"
    problems = too_far(runs, options.within)
    figures = {
        "seqbraid": __version__,
        "data": str(options.data.resolve()),
        "training": training_of(options),
        "ranks": options.ranks,
        "mgrit": options.mgrit,
        "within": options.within,
        "too_far": problems,
        "runs": [asdict(run) for run in runs],
    }
    path = options.out / f"{setting_name(options)}.md"
    write_text(path, text)
    write_text(path.with_suffix(".json"), json.dumps(figures, indent=2) + "\n")
    return text, problems


def parse_options() -> argparse.Namespace:
    """Return the options; those of MGRIT are checked before anything runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="feature store or .npz file")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the runs and the tables")
    seed = whole(0, 2**63 - 1)
    parser.add_argument(
        "--seeds", type=seed, nargs="+", metavar="N", default=[0, 1, 2], help="(default: 0 1 2)"
    )
    parser.add_argument("--splits", nargs="+", metavar="NAME", help="splits of a store (default: its own)")
    parser.add_argument("--ranks", type=whole(1, 10**6), default=4, metavar="N", help="(default: 4)")
    parser.add_argument(
        "--mgrit", default="--coarsening 4", metavar="OPTIONS", help="of MGRIT (default: --coarsening 4)"
    )
    parser.add_argument(
        "--within",
        type=positive,
        default=0.01,
        metavar="GAP",
        help="by which means may differ (default: 0.01)",
    )
    [hidden, layers] = options_of(ModelOptions, "hidden_size", "num_layers")
    of_training = options_of(TrainingOptions, "epochs", "batch_size", "learning_rate")
    shared = [hidden, layers.but(default=2), *of_training, *options_of(SequenceOptions, "pad")]
    add_options(parser, [each.but(group=None) for each in shared])
    options = parser.parse_args()
    options.mgrit = shlex.split(options.mgrit)
    of_mgrit = argparse.ArgumentParser(prog="accuracy_table.py --mgrit", add_help=False)
    add_options(of_mgrit, mgrit_options([4]))
    of_mgrit.parse_args(options.mgrit)
    return options


def main() -> None:
    """Train what is missing, and print the tables."""
    options = parse_options()
    require_same_training(options)
    runs: list[Run] = []
    text, problems = "", [""]
    for number, seed in enumerate(options.seeds, start=1):
        runs.extend(Runs(options).of_seed(seed))
        text, problems = report(options, runs)
        print(f"\n{number} of {len(options.seeds)} seeds\n\n{text}", file=sys.stderr, flush=True)
    print(text)
    if problems:
        sys.exit(f"accuracy_table: farther apart than {options.within:g}:\n" + "\n".join(problems))


if __name__ == "__main__":
    main()
