"""A trained run brought back: its options and metrics, its model, and what the model makes of data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from seqbraid.comm import ProcessGrid, as_grid
from seqbraid.data.dataset import Dataset, Part
from seqbraid.data.padding import PADDINGS, Padding, pad_part, pad_sequence, padded_steps
from seqbraid.data.sequence import as_sequence
from seqbraid.data.standardisation import Standardisation
from seqbraid.errors import DataError
from seqbraid.options import MGRIT, ModelOptions, Serial, solver_from_dict
from seqbraid.options.runs import Which
from seqbraid.train.batches import Batches
from seqbraid.train.evaluation import Evaluation, evaluate
from seqbraid.train.inference import both_inferences
from seqbraid.train.model import SequenceClassifier
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.slices import take_slice
from seqbraid.train.trained_on import open_for_run, padding_of_run

__all__ = ["Prediction", "Run", "load_run"]

Data = str | Path | Dataset
Array = npt.NDArray[Any] | Tensor


@contextmanager
def _belonging(folder: Path, which: str) -> Iterator[None]:
    """Raise `DataError` where what is made of a run's options and weights shows that they do not match."""
    try:
        yield
    except DataError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        # The second line of load_state_dict's error is the first to name a tensor.
        reason = " ".join(str(error).splitlines()[:2])
        raise DataError(
            f"{folder}: options.json and {which}.pt do not belong together ({reason}); train again"
        ) from error


@dataclass(frozen=True)
class Prediction:
    """What a classifier makes of one sequence: `probabilities` (classes,) of the classes `class_names`."""

    class_names: list[str]
    probabilities: npt.NDArray[np.float32]

    @property
    def class_name(self) -> str:
        """The most likely class."""
        return self.class_names[int(self.probabilities.argmax())]

    def top(self, count: int) -> list[tuple[str, float]]:
        """Return the most likely classes, `count` of them or all, each with its probability."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.class_names[index], float(self.probabilities[index])) for index in order]


class Run:
    """A run folder that `seqbraid train` or `seqbraid.train.fit` has left; see `load_run`.

    `which` tells the weights that `model`, `predict` and `evaluate` take.
    """

    def __init__(self, folder: str | Path, which: Which = "last") -> None:
        if which not in ("last", "best"):
            raise ValueError(f"which is {which!r}; expected 'last' or 'best'")
        self.folder = Path(folder)
        self.which: Which = which
        self._run_folder = RunFolder(self.folder)
        self.options: dict[str, Any] = self._run_folder.options()

    def __repr__(self) -> str:
        """Return the folder and which weights are taken."""
        return f"Run({str(self.folder)!r}, which={self.which!r})"

    def load(self) -> Run:
        """Read the weights now instead of at their first use, and return the run; see `load_run`."""
        padding_of_run(self.folder, self.options)
        _ = self.model, self.standardise
        return self

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl so far, one an epoch; raises `DataError` where they are damaged."""
        return self._run_folder.metrics()

    @property
    def stopped_by(self) -> str | None:
        """The name of the signal that stopped the training, None where it was not stopped or went on."""
        return self._run_folder.stopped_by

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, in the order of their labels."""
        names: list[str] = self.options["class_names"]
        return names

    @property
    def solver(self) -> Serial | MGRIT:
        """The solver of the training."""
        return solver_from_dict(self.options["solver"])

    @cached_property
    def model(self) -> SequenceClassifier:
        """The classifier with its weights, in evaluation mode, on one process and with the serial solver.

        Its input are standardised features: `run.model(run.standardise(x))`.
        """
        return self._new_model(Serial(), ProcessGrid())

    @cached_property
    def standardise(self) -> Standardisation:
        """What brings features (..., F) to mean 0 and deviation 1, as in the training."""
        size = self.options["model"].get("feature_size")
        with _belonging(self.folder, self.which):
            standardise = Standardisation(self._weights["mean"], self._weights["deviation"])
            if not standardise.mean.shape == standardise.deviation.shape == (size,):
                raise ValueError("mean and deviation are not as many as the features")
        return standardise

    @overload
    def predict(self, sequences: Array, names: Sequence[str] | None = None) -> Prediction: ...

    @overload
    def predict(self, sequences: Sequence[Array], names: Sequence[str] | None = None) -> list[Prediction]: ...

    def predict(
        self, sequences: Array | Sequence[Array], names: Sequence[str] | None = None
    ) -> Prediction | list[Prediction]:
        """Return the probabilities of the classes, of one sequence (T, F) or of each of a list of them.

        Features are given as they are in the data; they are standardised and padded as in the training. The
        solve is serial, so exact. Raises `DataError` for an array of another form, and one that is longer
        than sequences were padded to; it calls the sequences by their `names` (default: their numbers).
        """
        if isinstance(sequences, np.ndarray | Tensor) and sequences.ndim == 2:
            return self._predict(sequences, names[0] if names else "the sequence")
        names = [f"sequence {number}" for number in range(len(sequences))] if names is None else names
        return [self._predict(each, name) for each, name in zip(sequences, names, strict=True)]

    def _predict(self, array: Array, name: str) -> Prediction:
        sequence = as_sequence(array, self.options["model"]["feature_size"], name)
        padding, steps = padding_of_run(self.folder, self.options)
        if steps is not None and len(sequence) > steps:
            raise DataError(
                f"{name} has {len(sequence)} steps, but {self.folder} was trained on sequences "
                f"padded to {steps}; cut it to at most {steps}"
            )
        mean = self.standardise.mean.numpy()
        padded = torch.from_numpy(pad_sequence(sequence, steps or len(sequence), padding, mean))
        with torch.no_grad():
            logits = self.model(self.standardise(padded).unsqueeze(1))[0]
        return Prediction(self.class_names, logits.softmax(dim=0).numpy())

    def evaluate(
        self,
        data: Data,
        *,
        part: Literal["train", "test"] = "test",
        solver: Serial | MGRIT | None = None,
        split: str | None = None,
        pad: Padding | None = None,
        batch_size: int = 100,
        comm: object = None,
    ) -> Evaluation:
        """Return how the weights do on a part of `data`, a path or a data set; collective over `comm`.

        `solver`, `split` (of a feature store) and `pad` are those of the training unless given. `comm` is
        that of `seqbraid.GRU`, or a `ProcessGrid`. Raises `DataError` for data of other features, classes or
        clips than the run's.
        """
        solver = self.solver if solver is None else solver
        if not isinstance(solver, Serial | MGRIT):
            raise TypeError(f"solver is a {type(solver).__name__}; expected seqbraid.Serial() or MGRIT(...)")
        return evaluate(*self._measured(data, part, solver, split, pad, batch_size, as_grid(comm)))

    def evaluate_both_ways(
        self,
        data: Data,
        *,
        part: Literal["train", "test"] = "test",
        solver: MGRIT | None = None,
        split: str | None = None,
        pad: Padding | None = None,
        batch_size: int = 100,
        comm: object = None,
    ) -> dict[str, Evaluation]:
        """Return how the weights do with MGRIT, "mgrit", and with the serial solver, "serial".

        See `evaluate`; `solver` is needed where the training was serial.
        """
        parallel = self.solver if solver is None else solver
        if not isinstance(parallel, MGRIT):
            raise TypeError(f"solver is {parallel!r}; expected MGRIT(...) to compare with the serial solver")
        return both_inferences(
            *self._measured(data, part, parallel, split, pad, batch_size, as_grid(comm)), parallel
        )

    def _measured(
        self,
        data: Data,
        part: Literal["train", "test"],
        solver: Serial | MGRIT,
        split: str | None,
        pad: Padding | None,
        batch_size: int,
        grid: ProcessGrid,
    ) -> tuple[SequenceClassifier, Batches]:
        """Return the model on the ranks of a grid, and the batches to measure it on."""
        if part not in ("train", "test"):
            raise ValueError(f"part is {part!r}; expected 'train' or 'test'")
        if pad not in (None, *PADDINGS):
            raise ValueError(f"pad is {pad!r}; expected None or one of {PADDINGS}")
        dataset = open_for_run(self.folder, self.options, data, split)
        padding, trained_steps = padding_of_run(self.folder, self.options)
        padding = pad or padding
        steps = padded_steps(dataset, padding)
        if padding != "lengths" and trained_steps not in (None, steps):
            name = "the data set" if isinstance(data, Dataset) else data
            raise DataError(
                f"{name} has room for {steps} steps, but {self.folder} was trained on sequences padded to "
                f"{trained_steps}; give data with room for {trained_steps}, or take `pad=lengths`"
            )
        held = take_slice(steps, solver, grid)
        model = self._new_model(solver, grid)
        chosen: Part = dataset.train if part == "train" else dataset.test
        padded = pad_part(chosen, steps, padding, self.standardise.mean.numpy())
        return model, Batches(padded, held, self.standardise, batch_size, grid)

    def _new_model(self, solver: Serial | MGRIT, grid: ProcessGrid) -> SequenceClassifier:
        with _belonging(self.folder, self.which):
            model = SequenceClassifier(ModelOptions(**self.options["model"]), solver, grid)
            model.load_state_dict(self._weights["model"])
        return model.eval()

    @cached_property
    def _weights(self) -> dict[str, Any]:
        return self._run_folder.load_weights(self.which)


def load_run(folder: str | Path, which: Which = "last") -> Run:
    """Return the run in a folder, with the weights of its "last" or its "best" epoch.

    Weights are read when they are first asked for. Raises `DataError` where the folder holds no run, and
    later where its files are damaged or do not belong together.
    """
    return Run(folder, which)
