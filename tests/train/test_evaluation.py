from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn
from train.training_cases import IDENTITY, STEPS, make_part

import seqbraid as sb
from seqbraid.comm import Communicator, ProcessGrid
from seqbraid.data.dataset import Part
from seqbraid.mgrit import Serial
from seqbraid.train import Batches, Evaluation, ModelOptions, SequenceClassifier, TimeSlice, evaluate

CLASSES = 7


def part_of_seven() -> Part:
    part = make_part(31, 3)
    return Part(np.arange(31) % (CLASSES - 1), part.lengths, part.load)  # the last class never occurs


def measure(batch_size: int, grid: ProcessGrid | None = None) -> tuple[Evaluation, SequenceClassifier]:
    grid = grid or ProcessGrid()
    torch.manual_seed(0)
    model = SequenceClassifier(ModelOptions(3, CLASSES, hidden_size=6), Serial(), grid)
    with torch.no_grad():
        model.head.weight.mul_(5.0)
    held = sb.local_slice(STEPS, grid.sequence, 1)
    piece = TimeSlice(held.start, held.stop, STEPS)
    return evaluate(model, Batches(part_of_seven(), piece, IDENTITY, batch_size, grid)), model


def test_an_evaluation_counts_what_became_of_each_class() -> None:
    found, model = measure(10)
    part = part_of_seven()
    x = torch.from_numpy(part.load(np.arange(31), 0, STEPS)).transpose(0, 1)
    with torch.no_grad():
        logits = model(x, part.lengths.tolist())
    labels = torch.from_numpy(part.labels)
    expected = np.zeros((CLASSES, CLASSES), dtype=int)
    for truth, guess in zip(part.labels, logits.argmax(1).tolist(), strict=True):
        expected[truth, guess] += 1
    assert (found.confusion == expected).all()
    assert found.accuracy == np.trace(expected) / 31
    ranks = (logits > logits.gather(1, labels[:, None])).sum(1)
    assert found.top5 == pytest.approx(float((ranks < 5).float().mean()))
    assert found.top5 > found.accuracy
    assert found.loss == pytest.approx(float(nn.functional.cross_entropy(logits, labels)), rel=1e-5)
    of_classes = found.accuracy_of_classes
    assert of_classes[:-1].tolist() == pytest.approx(
        [expected[c, c] / expected[c].sum() for c in range(CLASSES - 1)]
    )
    assert np.isnan(of_classes[-1])
    written = json.loads(json.dumps(found.to_dict()))
    assert written["confusion"] == expected.tolist()
    assert written["accuracy"] == found.accuracy


@pytest.mark.parametrize(("sequence", "data"), [(4, 1), (2, 2), (1, 4), (1, 3)])
@pytest.mark.parametrize("batch_size", [5, 31])
def test_an_evaluation_does_not_depend_on_the_grid(sequence: int, data: int, batch_size: int) -> None:
    alone, _ = measure(100)

    def one_rank(communicator: Communicator) -> Evaluation:
        return measure(batch_size, ProcessGrid(communicator, sequence, data))[0]

    for found in sb.SimulatedWorld(sequence * data).run(one_rank):
        assert (found.confusion == alone.confusion).all()
        assert found.top5 == alone.top5
        assert found.loss == pytest.approx(alone.loss, rel=1e-5)


def test_with_five_classes_or_fewer_there_is_no_top_five() -> None:
    model = SequenceClassifier(ModelOptions(3, 5, hidden_size=4), Serial())
    part = make_part(6, 0)
    held = TimeSlice(0, STEPS, STEPS)
    found = evaluate(model, Batches(part, held, IDENTITY, 4, ProcessGrid()))
    assert found.top5 is None
    assert "top5" not in found.to_dict()
