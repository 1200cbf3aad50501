"""The same layer as a `lax.scan` compiled by JAX, for comparison where jax is installed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch

from seqbraid.bench.layer import Layer

__all__ = ["scan_gradients"]


def scan_gradients(layer: Layer, threads: int) -> Callable[[], tuple[Any, ...]] | None:
    """Return a function that computes the gradients of all four parameters with JAX; None without jax.

    The function waits for its result. Its first call compiles. `threads` is kept to if jax has not been used
    in this process before; XLA reads it from the environment, where a user's own setting stands.
    """
    if threads == 1:
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    os.environ.setdefault("NPROC", str(threads))
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    try:
        import jax
    except ImportError:
        return None
    import jax.numpy as jnp
    from jax import lax

    jax.config.update("jax_enable_x64", layer.dtype is torch.float64)
    H, implicit = layer.size.H, layer.cell == "implicit"

    def loss(parameters: tuple[Any, ...], series: Any) -> Any:
        w_ih, w_hh, b_ih, b_hh = parameters

        def step(h: Any, a: Any) -> tuple[Any, None]:
            g = h @ w_hh.T + b_hh
            r = jax.nn.sigmoid(a[:, :H] + g[:, :H])
            z = jax.nn.sigmoid(a[:, H : 2 * H] + g[:, H : 2 * H])
            n = jnp.tanh(a[:, 2 * H :] + r * g[:, 2 * H :])
            alpha = 1 / (2 - z) if implicit else z
            return n + alpha * (h - n), None

        # One product for all steps' inputs, as every contender has it.
        h, _ = lax.scan(step, jnp.zeros((series.shape[1], H), series.dtype), series @ w_ih.T + b_ih)
        return jnp.sum(h * h)

    gradients = jax.jit(jax.grad(loss))
    parameters = tuple(jnp.asarray(tensor.numpy()) for tensor in layer.weights.values())
    series = jnp.asarray(layer.series.numpy())

    def run() -> tuple[Any, ...]:
        found: tuple[Any, ...] = jax.block_until_ready(gradients(parameters, series))
        return found

    return run
