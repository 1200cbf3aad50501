from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.errors import DataError
from seqbraid.train.sealed import from_bytes, read_sealed, to_bytes, write_sealed

CONTENT: dict[str, Any] = {
    "model": {"w": torch.arange(6.0).reshape(2, 3), "empty": torch.zeros(0), "count": torch.tensor(3)},
    "history": [{"epoch": 1, "loss": 0.1, "name": "x", "none": None}, {"epoch": 2, "flag": True}],
    "random": torch.get_rng_state(),
}
WHOLE = to_bytes(CONTENT)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def test_content_goes_through_a_file_unchanged(tmp_path: Path) -> None:
    write_sealed(tmp_path / "a.pt", CONTENT)
    assert same(read_sealed(tmp_path / "a.pt"), CONTENT)
    # And is a file of torch's, for people who want to look into it.
    assert torch.equal(torch.load(tmp_path / "a.pt", weights_only=True)["model"]["w"], CONTENT["model"]["w"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_never_passes_for_other_content(position: int, change: int) -> None:
    damaged = bytearray(WHOLE)
    damaged[position] ^= change
    try:
        found = from_bytes(bytes(damaged), "x.pt")
    except DataError:
        return
    assert same(found, CONTENT)  # a byte of the archive's padding


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_a_torn_file_is_damaged(length: int) -> None:
    with pytest.raises(DataError, match=r"x\.pt is damaged"):
        from_bytes(WHOLE[:length], "x.pt")


def test_a_file_that_would_run_code_is_not_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> Any:
            return marker.touch, ()

    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match="damaged"):
        read_sealed(tmp_path / "evil.pt")
    assert not marker.exists()
