"""Train plain `torch.nn.GRU` as `seqbraid train` trains its own: same data, sizes, start, batches, optimizer.

The yardstick for accuracies: sequences are packed, so PyTorch's own rules for unequal lengths apply; or they
are padded, as by `seqbraid train --pad`.

example:
  python scripts/train_torch_gru.py features/ --hidden-size 100 --num-layers 2 --epochs 30 --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from seqbraid.cli.arguments import add_options
from seqbraid.comm import SingleProcess
from seqbraid.data.dataset import Part, open_dataset
from seqbraid.data.padding import pad_part, padded_steps
from seqbraid.data.standardisation import Standardisation
from seqbraid.files import write_text
from seqbraid.options import SequenceOptions, options_of


class TorchClassifier(nn.Module):
    """`torch.nn.GRU` and a linear head on the state at each sequence's true end."""

    def __init__(self, feature_size: int, hidden_size: int, num_layers: int, classes: int) -> None:
        super().__init__()
        self.gru = nn.GRU(feature_size, hidden_size, num_layers)
        self.head = nn.Linear(hidden_size, classes)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return logits (B, classes) of x (T, B, F) with true `lengths` (B,)."""
        _, h_n = self.gru(pack_padded_sequence(x, lengths, enforce_sorted=False))
        logits: Tensor = self.head(h_n[-1])
        return logits


def run_epoch(
    model: TorchClassifier,
    part: Part,
    steps: int,
    order: np.ndarray[Any, np.dtype[np.int64]],
    batch_size: int,
    standardise: Standardisation,
    optimizer: torch.optim.Optimizer | None,
) -> tuple[float, float]:
    """Return mean loss and accuracy over a part, training on it where there is an optimizer."""
    loss_sum, correct = 0.0, 0
    for first in range(0, len(part), batch_size):
        indices = order[first : first + batch_size]
        x = standardise(torch.from_numpy(part.load(indices, 0, steps))).transpose(0, 1)
        labels = torch.from_numpy(part.labels[indices])
        with torch.set_grad_enabled(optimizer is not None):
            logits = model(x, torch.from_numpy(part.lengths[indices]))
            loss = nn.functional.cross_entropy(logits, labels)
        if optimizer is not None:
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        loss_sum += loss.item() * len(indices)
        correct += int((logits.argmax(dim=1) == labels).sum())
    return loss_sum / len(part), correct / len(part)


def main() -> None:
    """Train and print one line an epoch."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, metavar="DATA", help="feature store or .npz file")
    parser.add_argument("--hidden-size", type=int, default=100)
    parser.add_argument("--num-layers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write a line an epoch, as metrics.jsonl of a run folder"
    )
    add_options(parser, options_of(SequenceOptions, "split", "pad"))
    options = parser.parse_args()
    dataset = open_dataset(options.data, options.split)
    steps = padded_steps(dataset, options.pad)
    standardise = Standardisation.fit(dataset.train, 0, steps, dataset.feature_size, SingleProcess())
    mean = standardise.mean.numpy()
    train, test = (pad_part(part, steps, options.pad, mean) for part in (dataset.train, dataset.test))
    torch.manual_seed(options.seed)
    model = TorchClassifier(
        dataset.feature_size, options.hidden_size, options.num_layers, len(dataset.class_names)
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    generator = np.random.default_rng(options.seed)
    lines = ""
    for epoch in range(1, options.epochs + 1):
        start = time.perf_counter()
        order = generator.permutation(len(train))
        loss, accuracy = run_epoch(model, train, steps, order, options.batch_size, standardise, optimizer)
        middle = time.perf_counter()
        test_loss, test_accuracy = run_epoch(
            model, test, steps, np.arange(len(test)), options.batch_size, standardise, None
        )
        end = time.perf_counter()
        print(
            f"epoch {epoch}/{options.epochs}  loss {loss:.6f}  train {accuracy:.4f}  "
            f"test {test_accuracy:.4f}  {end - start:.1f} s",
            flush=True,
        )
        metrics = {
            "epoch": epoch,
            "train_loss": loss,
            "train_accuracy": accuracy,
            "train_seconds": middle - start,
            "test_loss": test_loss,
            "test_accuracy": test_accuracy,
            "test_seconds": end - middle,
        }
        lines += json.dumps(metrics) + "\n"
        if options.json is not None:
            write_text(options.json, lines)


if __name__ == "__main__":
    main()
