"""An independent truth for the tests: published equations, written as loops that autograd differentiates."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def gru_loop(
    module: nn.Module, x: Tensor, h0: Tensor, cell: str, gamma: float, lengths: list[int] | None = None
) -> tuple[Tensor, Tensor]:
    """Run a stack of layers with the parameters of `module`, step by step, keeping autograd's graph.

    x (T, B, I), h0 (layers, B, H). Classic: h+ = h + gamma (1 - z)(n - h). Implicit, Moon & Cyr 2022:
    (1 + gamma (1 - z)) h+ = h + gamma (1 - z) n.
    """
    final = []
    for layer in range(h0.shape[0]):
        w_ih, w_hh = getattr(module, f"weight_ih_l{layer}"), getattr(module, f"weight_hh_l{layer}")
        b_ih, b_hh = getattr(module, f"bias_ih_l{layer}", None), getattr(module, f"bias_hh_l{layer}", None)
        h, outputs = h0[layer], []
        for t in range(x.shape[0]):
            a_r, a_z, a_n = nn.functional.linear(x[t], w_ih, b_ih).chunk(3, dim=-1)
            g_r, g_z, g_n = nn.functional.linear(h, w_hh, b_hh).chunk(3, dim=-1)
            r, z = torch.sigmoid(a_r + g_r), torch.sigmoid(a_z + g_z)
            n = torch.tanh(a_n + r * g_n)
            rate = gamma * (1 - z)
            new = h + rate * (n - h) if cell == "classic" else (h + rate * n) / (1 + rate)
            if lengths is None:
                h = new
                outputs.append(h)
            else:
                valid = (t < torch.tensor(lengths)).unsqueeze(1)
                h = torch.where(valid, new, h)
                outputs.append(torch.where(valid, h, torch.zeros_like(h)))
        x = torch.stack(outputs)
        final.append(h)
    return x, torch.stack(final)


def relative_error(found: Tensor, truth: Tensor) -> float:
    """Return the 2-norm of the difference relative to the truth's (absolute where that is zero)."""
    assert found.shape == truth.shape, f"{tuple(found.shape)} is not {tuple(truth.shape)}"
    found, truth = found.detach(), truth.detach()
    scale = truth.norm()
    return float((found - truth).norm() / scale) if scale > 0 else float(found.norm())
