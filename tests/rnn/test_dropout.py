import numpy as np
import pytest
import torch

import seqbraid as sb
from seqbraid.rnn.dropout import _splitmix64, drop


def three_layers(dropout):
    torch.manual_seed(0)
    return sb.GRU(5, 6, 3, dropout=dropout)


def dropped(seed, x, dropout=0.3, training=True):
    module = three_layers(dropout).train(training)
    torch.manual_seed(seed)
    return module(x)[0]


def test_dropout_follows_the_seed_and_acts_in_training_only():
    x = torch.randn(50, 4, 5)
    assert torch.equal(dropped(1, x), dropped(1, x))
    assert not torch.equal(dropped(1, x), dropped(2, x))
    assert torch.equal(dropped(1, x, training=False), dropped(2, x, dropout=0.0))
    module = three_layers(0.3)
    assert not torch.equal(module(x)[0], module(x)[0])  # a new draw for every call


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_its_share_independently(share):
    x = torch.ones(200, 10, 50)
    found = drop(x, share, (7, 0), 0)
    kept = found != 0
    assert abs(float(kept.float().mean()) - (1 - share)) < 0.01
    assert torch.allclose(found[kept], torch.tensor(1 / (1 - share)))
    for neighbour in (kept[1:] & kept[:-1], kept[:, :, 1:] & kept[:, :, :-1], kept[:, 1:] & kept[:, :-1]):
        assert abs(float(neighbour.float().mean()) - (1 - share) ** 2) < 0.01
    assert not torch.equal(found, drop(x, share, (7, 1), 0))
    # The choice belongs to the place in the sequence, wherever a slice of it begins.
    assert torch.equal(torch.cat([drop(x[:30], share, (7, 0), 0), drop(x[30:], share, (7, 0), 30)]), found)


def test_splitmix64_gives_the_published_numbers():
    # The first outputs for the seed 1234567, as in the tests of its reference implementations.
    numbers = _splitmix64(np.uint64(1234567), np.arange(3, dtype=np.uint64))
    assert numbers.tolist() == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_one_layer_with_dropout_is_told_of():
    with pytest.warns(UserWarning, match="only one"):
        sb.GRU(2, 3, dropout=0.5)
