"""Train the same classifier with `torch.nn.GRU` and with MGRIT on several numbers of ranks, and compare.

All runs start from the same weights and see the same batches. What follows -- goes to `seqbraid train`.

example:
  python scripts/compare_ranks.py features/ --ranks 1 2 4 --hidden-size 100 --num-layers 2 --epochs 20 \\
      -- --coarsening 4 --forward-iterations 1
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import add_options
from seqbraid.options import SequenceOptions, options_of

SHARED = ("hidden-size", "num-layers", "epochs", "batch-size", "lr", "seed")


def run(words: list[str]) -> str:
    """Run a command with one thread a process and return its standard output; a failure ends the script."""
    print("$ " + " ".join(words), file=sys.stderr, flush=True)
    done = subprocess.run(
        words, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        sys.exit(f"compare_ranks: exit code {done.returncode} from: {' '.join(words)}")
    return done.stdout


def torch_row(options: argparse.Namespace, shared: list[str]) -> list[str]:
    """Train `torch.nn.GRU` and return its line of the table."""
    script = str(Path(__file__).with_name("train_torch_gru.py"))
    output = run([sys.executable, script, str(options.data), *shared])
    epochs = re.findall(r"loss (\S+)\s+train \S+\s+test (\S+)\s+(\S+) s", output)
    return row("torch.nn.GRU", [(float(a), float(b), float(c)) for a, b, c in epochs])


def seqbraid_row(options: argparse.Namespace, shared: list[str], ranks: int) -> list[str]:
    """Train with MGRIT on `ranks` ranks and return its line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        launcher = ["mpiexec", "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, sys.executable, "-m", "seqbraid.cli.main", "train", str(options.data), *shared]
        run([*command, "--solver", "mgrit", "--output", f"{folder}/run", *options.train])
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    epochs: list[dict[str, Any]] = [json.loads(line) for line in lines]
    values = [(e["train_loss"], e["test_accuracy"], e["train_seconds"] + e["test_seconds"]) for e in epochs]
    return row(f"MGRIT, {ranks} rank{'s' if ranks > 1 else ''}", values)


def row(name: str, epochs: list[tuple[float, float, float]]) -> list[str]:
    """Return a line: first and last mean loss, last and highest test accuracy, seconds an epoch."""
    losses, accuracies, seconds = zip(*epochs, strict=True)
    middle = sorted(seconds)[len(seconds) // 2]
    return [
        name,
        f"{losses[0]:.6f}",
        f"{losses[-1]:.4f}",
        f"{accuracies[-1]:.4f}",
        f"{max(accuracies):.4f}",
        f"{middle:.2f}",
    ]


def main() -> None:
    """Train and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="feature store or .npz file")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4], help="(default: 1 2 4)")
    for name, default in zip(SHARED, ("100", "1", "10", "100", "1e-3", "0"), strict=True):
        parser.add_argument(f"--{name}", default=default, help=f"(default: {default})")
    add_options(parser, options_of(SequenceOptions, "split", "pad"))
    arguments = sys.argv[1:]
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    options = parser.parse_args(arguments[:cut])
    options.train = arguments[cut + 1 :]
    shared = [word for name in SHARED for word in (f"--{name}", getattr(options, name.replace("-", "_")))]
    shared += ["--pad", options.pad]
    if options.split is not None:
        shared += ["--split", options.split]
    header = ["", "epoch 1 loss", "last loss", "test accuracy", "highest", "s/epoch"]
    table = [header, torch_row(options, shared)]
    table += [seqbraid_row(options, shared, ranks) for ranks in options.ranks]
    widths = [max(len(line[column]) for line in table) for column in range(len(header))]
    for line in table:
        print("  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    main()
