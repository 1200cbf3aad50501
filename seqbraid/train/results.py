"""What is written into the run folder after an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqbraid.errors import OptionsError
from seqbraid.train.batches import TrainingData
from seqbraid.train.evaluation import Evaluation
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.trainer import Trainer

__all__ = ["Results", "Scalars"]


class Scalars:
    """Writes each epoch's numbers for TensorBoard.

    `first_epoch` hides what a part of the run that was cut off has written from there on. Raises
    `OptionsError` where TensorBoard is not installed.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise OptionsError(
                "`tensorboard` needs the tensorboard package; install it with "
                "pip install 'seqbraid[tensorboard]', or leave the option out"
            ) from error
        self._writer: Any = SummaryWriter(str(folder), purge_step=first_epoch)

    def write(self, metrics: dict[str, Any]) -> None:
        """Write the numbers of an epoch: train_loss as train/loss, and so on."""
        for name, value in metrics.items():
            if isinstance(value, dict):
                for kind, each in value.items():
                    self._writer.add_scalar(f"{name}/{kind}", each, metrics["epoch"])
            elif isinstance(value, (int, float)) and name != "epoch":
                group, _, rest = name.partition("_")
                tag = f"{group}/{rest}" if group in ("train", "test", "validation") else name
                self._writer.add_scalar(tag, value, metrics["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Finish the files."""
        self._writer.close()


class Results:
    """Writes weights, metrics and evaluation; every rank has it, and rank 0 alone calls it."""

    def __init__(self, folder: RunFolder, trainer: Trainer, data: TrainingData) -> None:
        self._folder = folder
        self._trainer = trainer
        self._data = data
        self._scalars: Scalars | None = None

    def open_scalars(self) -> None:
        """From now on, write scalars for TensorBoard too."""
        self._scalars = Scalars(self._folder.folder / "tensorboard", self._trainer.epoch)

    def write(self, metrics: dict[str, Any], test: Evaluation) -> None:
        """Write all that an epoch has come to."""
        weights = {
            "model": self._trainer.model.state_dict(),
            "mean": self._data.standardise.mean,
            "deviation": self._data.standardise.deviation,
            "epoch": metrics["epoch"],
        }
        self._folder.save_weights("last", weights)
        if self._trainer.best_epoch == metrics["epoch"]:
            self._folder.save_weights("best", weights)
        self._folder.write_evaluation(metrics["epoch"], {metrics["solver"]: test.to_dict()})
        self._folder.write_metrics(self._trainer.history)
        if self._scalars is not None:
            self._scalars.write(metrics)

    def close(self) -> None:
        """Finish the files."""
        if self._scalars is not None:
            self._scalars.close()
