"""Padded sequences against arrays padded by hand, and classifiers of them against torch.nn.GRU."""

from __future__ import annotations

import argparse
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import seqbraid as sb
from seqbraid.cli.arguments import add_options
from seqbraid.comm import Communicator, ProcessGrid, SingleProcess
from seqbraid.data.dataset import Part, open_dataset
from seqbraid.data.padding import PADDINGS, Padding, pad_part, pad_sequence, padded_steps
from seqbraid.data.standardisation import Standardisation
from seqbraid.data.store import FeatureStore
from seqbraid.mgrit import MGRIT, Serial
from seqbraid.options import SequenceOptions, options_of
from seqbraid.train import Batches, ModelOptions, SequenceClassifier, TimeSlice, evaluate

SIZE = 3
Sequences = list[npt.NDArray[np.float32]]


def draw_sequences(lengths: list[int], seed: int = 0) -> Sequences:
    random = np.random.default_rng(seed)
    return [random.normal(5.0, 2.0, (length, SIZE)).astype(np.float32) for length in lengths]


def pad_by_hand(
    sequences: Sequences, steps: int, padding: Padding, mean: npt.NDArray[Any]
) -> npt.NDArray[np.float32]:
    rooms = [((0, steps - len(sequence)), (0, 0)) for sequence in sequences]
    if padding == "repeat-last":
        return np.stack([np.pad(*pair, mode="edge") for pair in zip(sequences, rooms, strict=True)])
    deviations = [np.pad(sequence - mean, room) for sequence, room in zip(sequences, rooms, strict=True)]
    return np.stack(deviations) + mean


def make_part(sequences: Sequences, labels: list[int] | None = None) -> Part:
    def load(indices: npt.NDArray[np.int64], start: int, stop: int) -> npt.NDArray[np.float32]:
        block = np.zeros((len(indices), stop - start, SIZE), np.float32)
        for row, index in enumerate(indices):
            held = sequences[index][start:stop]
            block[row, : len(held)] = held
        return block

    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    return Part(np.array(labels or [0] * len(sequences), np.int64), lengths, load)


@settings(deadline=None, max_examples=100)
@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    room=st.integers(0, 6),
    padding=st.sampled_from(PADDINGS[1:]),
    data=st.data(),
)
def test_slices_of_any_cut_make_up_the_arrays_padded_by_hand(
    lengths: list[int], room: int, padding: Padding, data: st.DataObject
) -> None:
    sequences, mean = draw_sequences(lengths), np.array([1.0, -2.0, 0.5], np.float32)
    steps = max(lengths) + room
    padded = pad_part(make_part(sequences), steps, padding, mean)
    assert padded.lengths.tolist() == [steps] * len(lengths)
    # Cuts may coincide: a rank may hold no step.
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, steps), max_size=4))), steps]
    chosen = np.array(data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=6)))
    blocks = [padded.load(chosen, *cut) for cut in pairwise(cuts)]
    expected = pad_by_hand(sequences, steps, padding, mean)
    np.testing.assert_allclose(np.concatenate(blocks, axis=1), expected[chosen], rtol=1e-6, atol=1e-6)
    alone = [pad_sequence(sequence, steps, padding, mean) for sequence in sequences]
    np.testing.assert_allclose(np.stack(alone), expected, rtol=1e-6, atol=1e-6)


def test_true_lengths_leave_a_part_and_a_sequence_as_they_are() -> None:
    sequences, mean = draw_sequences([2, 4]), np.zeros(SIZE, np.float32)
    part = make_part(sequences)
    assert pad_part(part, 9, "lengths", mean) is part
    assert pad_sequence(sequences[0], 9, "lengths", mean) is sequences[0]


def test_padding_with_zeros_is_zero_once_standardised() -> None:
    sequences = draw_sequences([2, 5, 3])
    part = make_part(sequences)
    standardise = Standardisation.fit(part, 0, 5, SIZE, SingleProcess())
    padded = pad_part(part, 7, "zeros", standardise.mean.numpy())
    block = standardise(torch.from_numpy(padded.load(np.arange(3), 0, 7)))
    for row, sequence in zip(block, sequences, strict=True):
        assert torch.equal(row[len(sequence) :], torch.zeros(7 - len(sequence), SIZE))
        assert torch.equal(row[: len(sequence)], standardise(torch.from_numpy(sequence)))


def make_store(folder: Path, sequences: Sequences, frames: int) -> FeatureStore:
    store = FeatureStore.create(
        folder,
        clips=[f"a/{number}.avi" for number in range(len(sequences))],
        labels=[number % 2 for number in range(len(sequences))],
        splits={"first": [1] * (len(sequences) - 1) + [2]},
        class_names=["a", "b"],
        frames=frames,
        feature_size=SIZE,
        options={},
    )
    for number, sequence in enumerate(sequences):
        store.write_clip(number, sequence)
    return store


@pytest.mark.parametrize("padding", ["zeros", "repeat-last"])
def test_a_slice_reads_its_own_true_steps_and_at_most_one_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, padding: Padding
) -> None:
    lengths, steps = [4, 6, 9, 12, 1], 14
    sequences = draw_sequences(lengths)
    make_store(tmp_path / "store", sequences, steps)
    part = open_dataset(tmp_path / "store").train
    padded = pad_part(part, steps, padding, np.zeros(SIZE, np.float32))
    read: list[int] = []
    pread = os.pread

    def count(descriptor: int, size: int, offset: int) -> bytes:
        read.append(size)
        return pread(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", count)
    block = padded.load(np.arange(4), 5, 9)
    # Of the true lengths 4, 6, 9, 12 the steps 5 ... 8: none, one, four, four. Repeated, step 3 of the first.
    ours = [0, 1, 4, 4] if padding == "zeros" else [1, 1, 4, 4]
    assert sum(read) == sum(ours) * SIZE * 4
    expected = pad_by_hand(sequences[:4], steps, padding, np.zeros(SIZE))
    np.testing.assert_array_equal(block, expected[:, 5:9])
    read.clear()
    assert padded.load(np.arange(4), 14, 14).shape == (4, 0, SIZE)
    assert not read


def test_the_room_of_a_store_and_of_arrays_is_what_padding_fills(tmp_path: Path) -> None:
    make_store(tmp_path / "store", draw_sequences([2, 4, 3]), frames=7)
    random = np.random.default_rng(0)
    np.savez(
        tmp_path / "data.npz",
        x_train=random.normal(size=(3, 6, 2)),
        y_train=[0, 1, 0],
        length_train=[2, 4, 3],
        x_test=random.normal(size=(2, 5, 2)),
        y_test=[0, 1],
        length_test=[1, 1],
    )
    for name, room in (("store", 7), ("data.npz", 6)):
        dataset = open_dataset(tmp_path / name)
        assert padded_steps(dataset, "lengths") == 4
        assert padded_steps(dataset, "zeros") == padded_steps(dataset, "repeat-last") == room
        for part in (dataset.train, dataset.test):
            padded = pad_part(part, room, "repeat-last", np.zeros(dataset.feature_size, np.float32))
            block = padded.load(np.arange(len(part)), 0, room)
            for row, length in zip(block, part.lengths, strict=True):
                assert np.array_equal(row[length:], np.tile(row[length - 1], (room - length, 1)))


def test_the_command_line_offers_every_padding_there_is() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser, options_of(SequenceOptions, "pad"))
    assert parser.parse_args([]).pad == PADDINGS[0]
    assert [parser.parse_args(["--pad", padding]).pad for padding in PADDINGS] == list(PADDINGS)


def torch_logits(model: SequenceClassifier, layers: int, x: Tensor, h: int) -> Tensor:
    """Logits (B, classes) of torch.nn.GRU with the weights of `model`, from whole sequences x (B, T, F)."""
    gru, head = nn.GRU(SIZE, h, layers, batch_first=True), nn.Linear(h, 2)
    gru.load_state_dict(model.gru.state_dict())
    head.load_state_dict(model.head.state_dict())
    logits: Tensor = head(gru(x)[1][-1])
    return logits


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("padding", ["zeros", "repeat-last"])
# Three iterations are exact for the five intervals.
@pytest.mark.parametrize("solver", [Serial(), MGRIT(coarsening=3, forward_iterations=3)])
def test_a_classifier_of_padded_sequences_is_that_of_torch_on_arrays_padded_by_hand(
    ranks: int, padding: Padding, solver: Serial | MGRIT
) -> None:
    lengths, steps, labels = [2, 11, 5, 7, 1], 14, [0, 1, 1, 0, 1]
    sequences = draw_sequences(lengths)
    part = make_part(sequences, labels)
    flat = np.concatenate(sequences).astype(np.float64)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0)
    # Zeros of standardised features, where mean and deviation are those of the true steps alone.
    standard = [((sequence - mean) / deviation).astype(np.float32) for sequence in sequences]
    x = torch.from_numpy(pad_by_hand(standard, steps, padding, np.zeros(SIZE, np.float32)))

    def one_rank(communicator: Communicator) -> tuple[Tensor, Tensor, float, float]:
        held = sb.local_slice(steps, communicator, solver)
        standardise = Standardisation.fit(part, held.start, held.stop, SIZE, communicator)
        padded = pad_part(part, steps, padding, standardise.mean.numpy())
        torch.manual_seed(0)
        model = SequenceClassifier(ModelOptions(SIZE, 2, 8, 2), solver, communicator)
        block = standardise(torch.from_numpy(padded.load(np.arange(5), held.start, held.stop)))
        with torch.no_grad():
            logits = model(block.transpose(0, 1))
            expected = torch_logits(model, 2, x, 8)
        piece = TimeSlice(held.start, held.stop, steps)
        grid = ProcessGrid(communicator)
        losses = [evaluate(model, Batches(each, piece, standardise, 2, grid)).loss for each in (padded, part)]
        return logits, expected, *losses

    for logits, expected, loss, loss_at_true_ends in sb.SimulatedWorld(ranks).run(one_rank):
        torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
        whole = nn.functional.cross_entropy(expected, torch.tensor(labels)).item()
        assert loss == pytest.approx(whole, rel=1e-4)
        assert loss_at_true_ends != pytest.approx(whole, rel=1e-3)  # so the comparison can tell
