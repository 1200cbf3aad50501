"""Processes that start at once with nothing compiled, and those after them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# Prints the bits of a layer's results, and how many kernels came from the disk and how many did not.
PROGRAM = """
import hashlib
import torch
import seqbraid as sb
from seqbraid.kernels.compiled import adjoint_rows, forward_rows, project_rows

torch.manual_seed(0)
layer = sb.GRU(3, 4)
x = torch.randn(7, 2, 3, requires_grad=True)
output, _ = layer(x)
output.square().sum().backward()
tensors = [output, x.grad, *(each.grad for each in layer.parameters())]
digest = hashlib.sha256(b"".join(each.detach().numpy().tobytes() for each in tensors)).hexdigest()
stats = [kernel.dispatcher("float32").stats for kernel in (project_rows, forward_rows, adjoint_rows)]
print(digest, *(sum(getattr(each, of).values()) for of in ("cache_hits", "cache_misses") for each in stats))
"""


def start(processes, cache):
    """Start so many processes at once and return what they print."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(cache)}
    environment = {**environment, "OMP_NUM_THREADS": "1", "SEQBRAID_KERNELS": "fused"}
    command = [sys.executable, "-c", PROGRAM]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, env=environment, **pipes) for _ in range(processes)]
    printed = []
    for process in started:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert not err
        printed.append(out.split())
    return printed


def test_processes_may_compile_at_the_same_time_and_later_ones_need_not(tmp_path):
    one, other = start(2, tmp_path)
    assert one[0] == other[0]
    (later,) = start(1, tmp_path)
    assert later == [one[0], "1", "1", "1", "0", "0", "0"]
