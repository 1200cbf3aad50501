import gc
import threading

import numpy as np
import pytest
import torch

from seqbraid.kernels import empty_series, memory

LARGE = (1 << 18,)  # 1 MiB in float32


@pytest.fixture(autouse=True, scope="module")
def _garbage():
    """Let no block of another test come back in the middle of one here."""
    gc.collect()


@pytest.fixture(autouse=True)
def _idle(monkeypatch):
    """Begin and end with no idle blocks; tensors are large from 1 MiB on."""
    monkeypatch.setattr(memory, "_LEAST_BYTES", 2**20)
    memory._idle.clear()
    yield
    memory._idle.clear()


def like(dtype=torch.float32):
    return torch.empty(0, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 4), (64, 32, 320), (1 << 20,)])
def test_tensors_are_as_asked_for_and_can_be_written(shape, dtype):
    for _ in range(3):
        tensor = empty_series(shape, like(dtype))
        assert tensor.shape == shape
        assert tensor.dtype == dtype
        assert tensor.is_contiguous()
        assert tensor.device.type == "cpu"
        tensor.fill_(3.0)
        assert (tensor == 3).all()
        tensor = tensor.requires_grad_()
        (tensor * 2).sum().backward()
        assert tensor.grad.shape == shape


def test_other_devices_get_their_own():
    assert empty_series(LARGE, torch.empty(0, device="meta")).device.type == "meta"


def test_memory_is_used_again_once_nobody_holds_it():
    tensor = empty_series(LARGE, like())
    place = tensor.data_ptr()
    other = empty_series(LARGE, like())
    assert other.data_ptr() != place
    del tensor
    again = empty_series((1 << 10, 1 << 8), like())
    assert again.data_ptr() == place
    # In another dtype, and a little smaller.
    del again
    smaller = empty_series((1 << 17,), like(torch.float64))
    assert smaller.data_ptr() == place


VIEWS = {
    "slice": lambda tensor: tensor[5:7],
    "view": lambda tensor: tensor.view(-1, 2).t(),
    "detached": lambda tensor: tensor.detach(),
    "array": lambda tensor: tensor.numpy()[3:],
    "storage": lambda tensor: tensor.untyped_storage(),
    "reinterpreted": lambda tensor: tensor.view(torch.int32),
    "as parameter": lambda tensor: torch.nn.Parameter(tensor),
    "in a graph": lambda tensor: torch.ones(1, requires_grad=True) * tensor,
    "dlpack": lambda tensor: torch.from_dlpack(tensor),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_memory_is_kept_while_any_view_of_it_lives(view):
    tensor = empty_series(LARGE, like()).fill_(1.0)
    place, held = tensor.data_ptr(), view(tensor)
    del tensor
    others = [empty_series(LARGE, like()).fill_(2.0) for _ in range(3)]
    assert place not in {other.data_ptr() for other in others}
    del held
    assert place in {block.ctypes.data for block in memory._idle.values()}


def test_series_in_a_graph_are_not_handed_out_before_its_backward():
    weights = torch.ones(LARGE, requires_grad=True)
    series = empty_series(LARGE, like()).fill_(5.0)
    loss = (weights * series).sum()
    del series
    empty_series(LARGE, like()).fill_(-1.0)
    loss.backward()
    assert (weights.grad == 5).all()


def test_blocks_that_would_waste_more_than_they_serve_stay_idle():
    tensor = empty_series((4 << 18,), like())
    place = tensor.data_ptr()
    del tensor
    assert empty_series((1 << 18,), like()).data_ptr() != place
    assert empty_series((2 << 18,), like()).data_ptr() == place


def test_the_tightest_block_serves():
    sizes = (3 << 18, 2 << 18, 4 << 18)
    tensors = [empty_series((size,), like()) for size in sizes]
    places = [tensor.data_ptr() for tensor in tensors]
    del tensors
    assert empty_series((2 << 18,), like()).data_ptr() == places[1]


def test_small_tensors_are_not_kept():
    tensor = empty_series((LARGE[0] - 1,), like())
    del tensor
    assert not memory._idle


def test_idle_bytes_are_bounded(monkeypatch):
    monkeypatch.setattr(memory, "_MOST_IDLE_BYTES", 5 << 20)
    tensors = [empty_series(LARGE, like()) for _ in range(9)]
    places = [tensor.data_ptr() for tensor in tensors]
    while tensors:
        tensors.pop(0)
        assert sum(block.nbytes for block in memory._idle.values()) <= 5 << 20
    # Those that lay idle longest are gone.
    assert [block.ctypes.data for block in memory._idle.values()] == places[-5:]
    tensor = empty_series((10 << 18,), like())
    del tensor
    assert sum(block.nbytes for block in memory._idle.values()) <= 5 << 20


def test_threads_never_share_a_block():
    failures = []

    def work(number):
        for turn in range(60):
            tensor = empty_series((LARGE[0] + 1000 * (turn % 5),), like()).fill_(number)
            view = tensor[::1000]
            del tensor
            if not bool((view == number).all()):
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert memory._idle
    assert all(isinstance(block, np.ndarray) for block in memory._idle.values())
