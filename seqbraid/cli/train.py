"""Train a sequence classifier with the sequence split over MPI ranks.

DATA is a feature store made by `seqbraid preprocess`, or an .npz file with x_train (N, T, I), y_train,
x_test and y_test, optionally length_train, length_test and label (class names), or a folder of such .npy
files, of which a rank reads its own steps alone. Features are standardised
with mean and deviation of the training part. The classifier is a GRU with a linear head on the state at
each sequence's true end, trained with cross entropy and Adam. With --pad zeros or repeat-last, sequences
are first filled up to the steps that DATA has room for, and the head sees the state after the last of
them, as Moon & Cyr do it. The run folder gets options.json, metrics.jsonl, last.pt and best.pt (highest
test accuracy).

example, after `seqbraid preprocess videos/ features/`:
  seqbraid train features/ --output run/
  mpiexec -n 4 seqbraid train features/ --cell implicit --solver mgrit --coarsening 4 \\
      --hidden-size 100 --num-layers 2 --epochs 6 --output run-mgrit/
  seqbraid train features51/ --split 2 --pad zeros --output run-split2/
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from seqbraid.cli.arguments import (
    add_sequence_arguments,
    add_solver_arguments,
    add_threads_argument,
    positive,
    whole,
)
from seqbraid.cli.solvers import choose_from_options, describe_solver, solver_from_options

__all__ = ["HELP", "add_arguments", "run"]

HELP = "train a classifier with the sequence split over ranks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `seqbraid train`."""
    parser.add_argument("data", type=Path, metavar="DATA", help="feature store, .npz file or folder of .npy")
    parser.add_argument("--output", type=Path, required=True, metavar="RUN", help="run folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace a run that lies there")
    add_sequence_arguments(parser)
    model = parser.add_argument_group("model")
    model.add_argument(
        "--cell",
        choices=("classic", "implicit"),
        default="classic",
        help="torch.nn.GRU's cell, or the implicit one of Moon & Cyr (default: classic)",
    )
    model.add_argument(
        "--gamma", type=positive, default=1.0, metavar="STEP", help="step of the cell's ODE (default: 1)"
    )
    model.add_argument(
        "--hidden-size", type=whole(1, 10**6), default=100, metavar="H", help="hidden units (default: 100)"
    )
    model.add_argument(
        "--num-layers", type=whole(1, 1000), default=1, metavar="L", help="stacked layers (default: 1)"
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--epochs",
        type=whole(1, 10**6),
        default=10,
        metavar="N",
        help="passes over the training part (default: 10)",
    )
    training.add_argument(
        "--batch-size", type=whole(1, 10**9), default=100, metavar="B", help="sequences a step (default: 100)"
    )
    training.add_argument(
        "--lr", type=positive, default=1e-3, metavar="RATE", help="learning rate of Adam (default: 1e-3)"
    )
    training.add_argument(
        "--seed",
        type=whole(0, 2**63 - 1),
        default=0,
        metavar="N",
        help="of the first weights and the order of batches (default: 0)",
    )
    add_solver_arguments(parser)
    add_threads_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Train and leave a run folder; rank 0 reports."""
    import torch

    from seqbraid import __version__
    from seqbraid.cli.slices import take_slice
    from seqbraid.comm import on_first_rank, world
    from seqbraid.data.dataset import open_dataset
    from seqbraid.data.padding import pad_part, padded_steps
    from seqbraid.data.standardisation import Standardisation
    from seqbraid.threads import set_threads
    from seqbraid.train import (
        ModelOptions,
        RunFolder,
        SequenceClassifier,
        TrainingOptions,
        solver_to_dict,
        train,
    )

    communicator = world()
    threads = set_threads(options.threads)
    first_rank = communicator.rank == 0
    dataset = open_dataset(options.data, options.split)
    steps = padded_steps(dataset, options.pad)
    batch = min(options.batch_size, len(dataset.train))
    size = (steps, batch, dataset.feature_size, options.hidden_size)
    choice = choose_from_options(options, size, communicator.size)
    solver = solver_from_options(options, choice=choice)
    held = take_slice(steps, solver, communicator)
    model_options = ModelOptions(
        dataset.feature_size,
        len(dataset.class_names),
        options.hidden_size,
        options.num_layers,
        options.cell,
        options.gamma,
    )
    training = TrainingOptions(options.epochs, options.batch_size, options.lr, options.seed)
    folder = RunFolder(options.output)
    on_first_rank(
        communicator,
        lambda: folder.create(
            {
                "seqbraid": __version__,
                "data": str(options.data.resolve()),
                **_split(dataset.split, dataset.split_sha256),
                "features": dataset.options,
                "class_names": dataset.class_names,
                "model": vars(model_options),
                "solver": solver_to_dict(solver),
                "training": {**vars(training), **_padding(options.pad, steps)},
                "ranks": communicator.size,
                "threads": threads,
            },
            options.overwrite,
        ),
        "making the run folder",
    )
    if first_rank:
        print(
            f"{len(dataset.train)} training and {len(dataset.test)} test sequences of up to {dataset.steps} "
            f"steps, {dataset.feature_size} features, {len(dataset.class_names)} classes\n"
            f"{_sequences(dataset.split, options.pad, steps)}\n"
            f"{_ranks(communicator.size, threads)}, {describe_solver(solver)}, {options.cell} cell",
            flush=True,
        )
        if choice is not None:
            print(choice, flush=True)
    standardise = Standardisation.fit(
        dataset.train, held.start, held.stop, dataset.feature_size, communicator
    )
    torch.manual_seed(options.seed)
    model = SequenceClassifier(model_options, solver, communicator)

    history: list[dict[str, Any]] = []

    def after_epoch(metrics: dict[str, Any]) -> None:
        best = metrics["test_accuracy"] > max((entry["test_accuracy"] for entry in history), default=-1.0)
        history.append(metrics)
        if not first_rank:
            return
        weights = {
            "model": model.state_dict(),
            "mean": standardise.mean,
            "deviation": standardise.deviation,
            "epoch": metrics["epoch"],
        }
        folder.save_weights("last", weights)
        if best:
            folder.save_weights("best", weights)
        folder.write_metrics(history)
        print(_line(metrics, options.epochs, options.solver == "mgrit"), flush=True)

    mean = standardise.mean.numpy()
    train_part = pad_part(dataset.train, steps, options.pad, mean)
    test_part = pad_part(dataset.test, steps, options.pad, mean)
    train(model, train_part, test_part, held, standardise, training, communicator, after_epoch)
    if first_rank:
        top = max(history, key=lambda entry: entry["test_accuracy"])
        print(
            f"{options.output}: test accuracy {history[-1]['test_accuracy']:.4f} after the last epoch "
            f"(highest {top['test_accuracy']:.4f}, epoch {top['epoch']})",
            flush=True,
        )


def _split(name: str | None, sha256: dict[str, str]) -> dict[str, Any]:
    return {} if name is None else {"split": name, "split_sha256": sha256}


def _padding(pad: str, steps: int) -> dict[str, Any]:
    return {"pad": pad} if pad == "lengths" else {"pad": pad, "padded_steps": steps}


def _sequences(split: str | None, pad: str, steps: int) -> str:
    what = {"zeros": "zeros", "repeat-last": "the last step of each"}
    how = "true lengths" if pad == "lengths" else f"padded to {steps} steps with {what[pad]}"
    return how if split is None else f"split {split}, {how}"


def _line(metrics: dict[str, Any], epochs: int, parallel: bool) -> str:
    seconds = metrics["train_seconds"] + metrics["test_seconds"]
    line = (
        f"epoch {metrics['epoch']}/{epochs}  loss {metrics['train_loss']:.4f}  "
        f"train {metrics['train_accuracy']:.4f}  test {metrics['test_accuracy']:.4f}  {seconds:.1f} s"
    )
    if not parallel:
        return line
    forward, backward = metrics["forward_residual"], metrics["backward_residual"]
    return f"{line}  residual forward {forward:.1e} backward {backward:.1e}"


def _ranks(ranks: int, threads: int) -> str:
    return f"{ranks} rank{'s' if ranks > 1 else ''} x {threads} thread{'s' if threads > 1 else ''}"
