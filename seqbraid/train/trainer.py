"""Training of a classifier whose sequences are split over ranks, which can be stopped and gone on with."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqbraid.comm import ProcessGrid, on_rank_zero
from seqbraid.data.dataset import Part
from seqbraid.errors import DataError
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.options import TrainingOptions
from seqbraid.progress import progress_bar
from seqbraid.solve import sum_gradients
from seqbraid.train.average import WeightAverage
from seqbraid.train.batches import Batch, Batches, Indices, TrainingData
from seqbraid.train.checkpoints import Checkpoints
from seqbraid.train.errors import NonFiniteError
from seqbraid.train.evaluation import Evaluation, evaluate
from seqbraid.train.interruption import SIGNALS, Interruption
from seqbraid.train.loss import CrossEntropy, class_weights
from seqbraid.train.model import SequenceClassifier
from seqbraid.train.optimizers import make_optimizer
from seqbraid.train.rank_zero import copy_parameters, latest_checkpoint
from seqbraid.train.sealed import from_bytes
from seqbraid.train.tally import Tally

__all__ = ["Trainer"]

_FORMAT = 1


class Trainer:
    """Trains a model, every rank of `grid` alike; all methods are collective.

    Attributes:
        epoch: the one under way, from 1; after the last it is the number of epochs + 1.
        updates: done so far, in all epochs.
        history: metrics of the epochs so far.
        sent_back: whether a loss that is not finite has put the serial solver in the place of MGRIT.

    With `checkpoints`, rank 0 writes one at the start, after every epoch, every `minutes` within it, and when
    `interruption` has received a signal. Batches follow from the seed and the epoch, whatever the ranks.

    """

    def __init__(
        self,
        model: SequenceClassifier,
        data: TrainingData,
        options: TrainingOptions,
        grid: ProcessGrid | None = None,
        checkpoints: Checkpoints | None = None,
        minutes: float = 10.0,
        interruption: Interruption | None = None,
    ) -> None:
        self.model = model
        self.options = options
        self.grid = ProcessGrid() if grid is None else grid
        self.epoch = 1
        self.updates = 0
        self.history: list[dict[str, Any]] = []
        self.sent_back = False
        self._data = data
        self._checkpoints = checkpoints
        self._minutes = minutes
        self._saved = time.monotonic()
        self._interruption = Interruption() if interruption is None else interruption
        self._optimizer = make_optimizer(model.parameters(), options)
        decay = options.ema_decay
        self._average = None if decay is None else WeightAverage(model, decay)
        self._gamma = model.gru.gamma
        model.generator.manual_seed(options.seed)
        weights = class_weights(
            options.class_weights, torch.from_numpy(data.train.labels), model.head.out_features
        )
        self._loss = CrossEntropy(weights, options.label_smoothing)
        self._batches = self._batches_of(data.train)
        self._batch = 0  # updates done in this epoch
        self._tally = Tally()
        self._orders = np.random.default_rng(options.seed)
        self._orders_drawn = 0

    def run(self, after_epoch: Callable[[dict[str, Any], Evaluation], None]) -> str | None:
        """Train to the end; return the signal's name where one ended it before, else None.

        `after_epoch(metrics, test)` is called on every rank after each epoch. Raises `NonFiniteError` for a
        loss or weights that are not finite, unless the options say to go back. With `ema_decay` the model
        has the averaged weights whenever `after_epoch` is called, and at the end of the training.
        """
        if self._average is not None:
            self._average.leave_model()
        copy_parameters(self.model, self.grid.world)
        if self._average is not None:
            self._average.begin()
        self._require_room()
        self._save()
        while not self.finished:
            try:
                received = self._train_epoch()
                if received is not None:
                    self._save()
                    return received
                # Ranks make the same updates; this keeps machines that round differently from drifting apart.
                copy_parameters(self.model, self.grid.world)
                with self._averaged():
                    after_epoch(*self._measure())
                self.epoch += 1
                self._batch, self._tally = 0, Tally()
                self._save()
            except NonFiniteError as error:
                self._go_back(error)
        if self._average is not None:
            self._average.enter_model()
        return None

    @property
    def watched(self) -> str:
        """The part whose loss and accuracy tell the best epoch: "validation" or "test"."""
        return "test" if self._data.validation is None else "validation"

    @property
    def best_epoch(self) -> int:
        """The first epoch with the highest accuracy on the watched part."""
        return 1 + int(np.argmax([entry[f"{self.watched}_accuracy"] for entry in self.history]))

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        return self.epoch > self.options.epochs or self.patience_left <= 0

    @property
    def patience_left(self) -> float:
        """Epochs that may still pass without a smaller loss on the watched part; infinite by default."""
        if self.options.patience is None:
            return math.inf
        # Epochs on coarser levels are trained on another problem.
        losses = [entry[f"{self.watched}_loss"] for entry in self.history if entry["level"] == 1]
        since = len(losses) - 1 - int(np.argmin(losses)) if losses else 0
        return self.options.patience - since

    def restore(self) -> bool:
        """Go back to the latest checkpoint that is whole; return whether there was one.

        Raises `DataError` where it belongs to another model or other options.
        """
        if self._checkpoints is None:
            return False
        data = latest_checkpoint(self._checkpoints, self.grid.world)
        if data is None:
            return False
        content = from_bytes(data, "the checkpoint")
        try:
            self._load(content)
        except (KeyError, TypeError, ValueError, RuntimeError, IndexError) as error:
            reason = " ".join(str(error).splitlines()[:2])
            raise DataError(
                f"{self._checkpoints.folder}: a checkpoint does not belong to this model and its options "
                f"({reason}); train again with `overwrite=True`"
            ) from error
        return True

    def _train_epoch(self) -> str | None:
        """Do what is left of the epoch; return the signal that cuts it short."""
        coarsening = self.options.time_coarsening(self.epoch)
        batches = self._batches
        if coarsening > 1:
            batches = batches.coarsened(coarsening, self.model.gru.solver)
        coming = batches.in_order(self._order(), self._batch)
        self.model.gru.gamma = self._gamma * coarsening
        self.model.train()
        total = len(self._data.train)
        title = f"epoch {self.epoch}/{self.options.epochs}"
        with progress_bar(total, title, "seq", self.grid.world.rank) as bar:
            bar.update(min(self._batch * self.options.batch_size, total))
            while self._batch < len(batches):
                with self._tally.rest():
                    with self._tally.timed("data"):
                        batch = next(coming)
                    received, save = self._update(batch)
                bar.update(batch.slice.total)
                bar.set_postfix(loss=f"{self._tally.loss / self._tally.sequences:.3f}", refresh=False)
                if received is not None:
                    return received
                if save:
                    self._save()
        return None

    def _update(self, batch: Batch) -> tuple[str | None, bool]:
        """Make one update; return the signal that some rank has received, and whether to save."""
        rate = self.options.rate(self.updates, len(self._batches))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        messages: list[Tensor] = []

        def closure() -> float:
            self._optimizer.zero_grad()
            logits = self.model(batch.x, batch.lengths, batch.slice)
            loss = self._loss.partial(logits, batch.labels, batch.all_labels)
            correct = int((logits.argmax(dim=1) == batch.labels).sum())
            messages.append(self._tell(float(loss.detach()), correct))
            value = float(messages[-1][0])
            if not math.isfinite(value):
                first = self._batch * self.options.batch_size
                raise NonFiniteError(
                    f"the loss is {value} in epoch {self.epoch}, sequence {first} of "
                    f"{len(self._data.train)}; take a smaller learning rate (`learning_rate`), clip the "
                    "gradients (`clip_norm`), or look for extreme values in the data"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            # The head sees all of its group's sequence, but its group alone.
            sum_gradients(self.model.head, self.grid.data)
            self._clip()
            self._tally.add_solve(self.model.gru.last_solve, torch.finfo(logits.dtype).eps)
            return value

        self._optimizer.step(closure)
        # L-BFGS calls the closure several times: the first is at the weights before the update.
        self._tally.loss += float(messages[0][0]) * batch.slice.total
        self._tally.correct += int(messages[0][1])
        self._tally.sequences += batch.slice.total
        self._batch += 1
        self.updates += 1
        # Before a parallel solve with them diverges, or they are measured and written.
        self._require_finite_weights()
        if self._average is not None:
            self._average.update()
        heard = torch.stack(messages).amax(dim=0)
        received = next((name for name, flag in zip(SIGNALS, heard[3:], strict=True) if flag > 0), None)
        return received, bool(heard[2] > 0)

    def _tell(self, loss: float, correct: int) -> Tensor:
        """Return the batch's loss and hits, whether rank 0's time to save has come, and signals received."""
        row = torch.zeros(3 + len(SIGNALS), dtype=torch.float64)
        if self.grid.sequence.rank == 0:
            row[0], row[1] = loss, correct
        if self.grid.world.rank == 0 and time.monotonic() - self._saved >= 60.0 * self._minutes:
            row[2] = 1.0
        if self._interruption.received is not None:
            row[3 + SIGNALS.index(self._interruption.received)] = 1.0
        return self.grid.world.all_reduce(row, "loss and signals")

    def _clip(self) -> None:
        limit = self.options.clip_norm
        if limit is not None:
            norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), limit))
            self._tally.largest_gradient_norm = max(self._tally.largest_gradient_norm, norm)

    def _measure(self) -> tuple[dict[str, Any], Evaluation]:
        """Return the epoch's metrics, which join the history, and the evaluation of the test part."""
        tally = self._tally.merged(self.grid.world)
        coarsening = self.options.time_coarsening(self.epoch)
        work = self.history[-1]["work"] if self.history else 0.0
        metrics = {
            "epoch": self.epoch,
            "level": coarsening,
            "updates": self.updates,
            "work": work + 1.0 / coarsening,
            "learning_rate": self.options.rate(self.updates - 1, len(self._batches)),
            "solver": "mgrit" if isinstance(self.model.gru.solver, MGRIT) else "serial",
            **tally.metrics(),
        }
        # What is measured is always the full sequence.
        self.model.gru.gamma = self._gamma
        test = evaluate(self.model, self._batches_of(self._data.test))
        metrics |= {
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            **({} if test.top5 is None else {"test_top5": test.top5}),
            "test_residual": test.residual,
            "test_seconds": test.seconds,
        }
        if self._data.validation is not None:
            found = evaluate(self.model, self._batches_of(self._data.validation))
            metrics |= {"validation_loss": found.loss, "validation_accuracy": found.accuracy}
        self.history.append(metrics)
        return metrics, test

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """Let the model have the averaged weights meanwhile, where there is an average; collective."""
        if self._average is None:
            yield
            return
        self._average.enter_model()
        try:
            copy_parameters(self.model, self.grid.world)
            yield
        finally:
            self._average.leave_model()

    def _batches_of(self, part: Part) -> Batches:
        return Batches(part, self._data.held, self._data.standardise, self.options.batch_size, self.grid)

    def _order(self) -> Indices:
        """Return the order of the sequences in this epoch: the generator's permutation of that number."""
        if self._orders_drawn >= self.epoch:
            self._orders, self._orders_drawn = np.random.default_rng(self.options.seed), 0
        for _ in range(self.epoch - self._orders_drawn):
            order = self._orders.permutation(len(self._data.train))
        self._orders_drawn = self.epoch
        return order

    def _save(self) -> None:
        """Let rank 0 write a checkpoint; raises `NonFiniteError` where it would be of no use."""
        if self._checkpoints is None:
            return
        self._require_finite_weights()
        self._tally = self._tally.merged(self.grid.world)
        checkpoints = self._checkpoints
        on_rank_zero(
            self.grid.world, lambda: checkpoints.save(self.updates, self._content()), "writing a checkpoint"
        )
        self._saved = time.monotonic()

    def _require_finite_weights(self) -> None:
        for name, parameter in self.model.named_parameters():
            # The sum is not finite where a value is not, and takes far less time; it may overflow too.
            if not torch.isfinite(parameter.detach().sum()) and not torch.isfinite(parameter).all():
                raise NonFiniteError(
                    f"{name} holds nan or inf after update {self.updates}; take a smaller learning rate "
                    "(`learning_rate`), or clip the gradients (`clip_norm`)"
                )

    def _require_room(self) -> None:
        """Raise `OptionsError` where checkpoints will not fit on the disk, before hours have been spent."""
        if self._checkpoints is None:
            return
        # Adam keeps two moments of each weight, L-BFGS its last hundred steps and changes of the gradient.
        copies = 205 if self.options.optimizer == "lbfgs" else 3 + (self._average is not None)
        size = 100_000 + copies * sum(parameter.nbytes for parameter in self.model.parameters())
        checkpoints = self._checkpoints
        on_rank_zero(self.grid.world, lambda: checkpoints.require_room(size), "looking for room on the disk")

    def _content(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "optimizer_kind": self.options.optimizer,
            **({} if self._average is None else {"average": self._average.state()}),
            "random": torch.get_rng_state(),
            "random_of_head": self.model.generator.get_state(),
            "serial": self.sent_back,
            "epoch": self.epoch,
            "batch": self._batch,
            "updates": self.updates,
            "history": self.history,
            "tally": asdict(self._tally),
        }

    def _load(self, content: dict[str, Any]) -> None:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']}, expected {_FORMAT}")
        if content["optimizer_kind"] != self.options.optimizer:
            raise ValueError(f"optimizer {content['optimizer_kind']}, expected {self.options.optimizer}")
        self.model.load_state_dict(content["model"])
        if self._average is not None:
            self._average.load(content.get("average"))
        # Its moments and the like; weight decay and momentum are as the options say now.
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({**content["optimizer"], "param_groups": groups})
        torch.set_rng_state(content["random"])
        self.model.generator.set_state(content["random_of_head"])
        self.sent_back = content["serial"]
        if self.sent_back:
            self.model.gru.solver = Serial()
        self.epoch, self.updates, self._batch = content["epoch"], content["updates"], content["batch"]
        self.history = content["history"]
        self._tally = Tally(**content["tally"])

    def _go_back(self, error: NonFiniteError) -> None:
        """Continue from the latest checkpoint with the serial solver; raise the error where that won't do."""
        parallel = isinstance(self.model.gru.solver, MGRIT)
        if self.options.on_nonfinite != "rollback" or not parallel or not self.restore():
            raise error
        self.model.gru.solver, self.sent_back = Serial(), True
        cause = str(error).partition(";")[0]
        warnings.warn(
            f"{cause}; back at update {self.updates}, in epoch {self.epoch}, and on with the serial solver",
            RuntimeWarning,
            stacklevel=2,
        )
