"""Threads that each take whole batches: they share no layer of the network, so none waits for another."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

__all__ = ["BatchPool"]

Features = npt.NDArray[np.float32]


class BatchPool:
    """Calls `function` on batches, as many at once as torch has threads; a context manager.

    Within it torch works with one thread in each of them. Splitting every layer over the threads instead
    makes all of them wait whenever the system takes one away, say for the decoder, and it rounds
    otherwise on other numbers of threads.
    """

    def __init__(self, function: Callable[[npt.NDArray[np.uint8]], Features]) -> None:
        self.threads = torch.get_num_threads()
        self._function = function
        self._executor = ThreadPoolExecutor(
            self.threads, thread_name_prefix="network", initializer=torch.set_num_threads, initargs=(1,)
        )

    def __enter__(self) -> BatchPool:
        # What is set last counts for MKL in all threads.
        torch.set_num_threads(1)
        return self

    def __exit__(self, *error: object) -> None:
        self._executor.shutdown(cancel_futures=True)
        torch.set_num_threads(self.threads)

    def submit(self, images: npt.NDArray[np.uint8]) -> Future[Features]:
        """Have a batch go through, after those submitted before."""
        return self._executor.submit(self._function, images)
