"""The differentiable solve of any time-stepping model, forward and adjoint, over the ranks of a job."""

from seqbraid.solve.agreement import Call, agree_on_call
from seqbraid.solve.divergence import Divergence
from seqbraid.solve.function import solve
from seqbraid.solve.gradient_sums import GradientSums
from seqbraid.solve.model import AdjointProblem, ForwardProblem, Model, Tensors, Where
from seqbraid.solve.plan import SolvePlan
from seqbraid.solve.sum_gradients import sum_gradients

__all__ = [
    "AdjointProblem",
    "Call",
    "Divergence",
    "ForwardProblem",
    "GradientSums",
    "Model",
    "SolvePlan",
    "Tensors",
    "Where",
    "agree_on_call",
    "solve",
    "sum_gradients",
]
