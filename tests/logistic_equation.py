"""A scalar differential equation as a problem of the solver."""

import torch


class EulerLevel:
    """Steps of u' = u (1 - u) + f with forcing (n,), each `lengths` (n,) long."""

    def __init__(self, forcing, lengths, short_first=False, sequential="gathered"):
        self.forcing, self.lengths, self.short_first = forcing, lengths, short_first
        self.sequential = sequential
        self.count = len(forcing)

    def propagate(self, points, coarsening, source):
        before, ends = torch.empty(self.count, dtype=torch.float64), []
        for point, steps in zip(points, self.groups(coarsening), strict=True):
            for j in steps:
                before[j] = point
                point = euler(point, self.forcing[j], self.lengths[j])
                if source is not None:
                    point = point + source[j]
            ends.append(point)
        return before, torch.stack(ends) if ends else points

    def groups(self, factor):
        """Return the steps of each interval; the last is short, or with `short_first` the first."""
        if not self.count:
            return []
        cuts = list(range(0, self.count, factor))
        if self.short_first:
            cuts = [0, *range(self.count % factor or factor, self.count, factor)]
        return [range(one, other) for one, other in zip(cuts, [*cuts[1:], self.count], strict=True)]

    def coarsen(self, factor):
        groups = [list(group) for group in self.groups(factor)]
        if not groups:
            return self
        forcing = torch.stack([self.forcing[group].mean() for group in groups])
        lengths = torch.stack([self.lengths[group].sum() for group in groups])
        return EulerLevel(forcing, lengths, self.short_first, self.sequential)

    def gather(self, gather):
        assert self.sequential == "gathered"
        return EulerLevel(gather(self.forcing), gather(self.lengths), self.short_first)


class LinearLevel:
    """Steps u+ = a u with factors a (n,), one or all at a time."""

    sequential = "gathered"

    def __init__(self, factors):
        self.factors, self.count = factors, len(factors)

    def propagate(self, points, coarsening, source):
        if coarsening == 1:
            return points, self.factors * points if source is None else self.factors * points + source
        before = [points[0]]
        for j, factor in enumerate(self.factors):
            before.append(factor * before[-1] + (0 if source is None else source[j]))
        return torch.stack(before[:-1]), before[-1].unsqueeze(0)

    def gather(self, gather):
        return LinearLevel(gather(self.factors))


def euler(u, forcing, dt):
    return u + dt * (u * (1 - u) + forcing)


class LogisticEquation:
    """The same with fine steps of `dt`, intervals `first` to `first + intervals - 1`. Not a GRU at all."""

    short_first = False
    together = 3
    groups = (...,)
    sequential = "gathered"

    def __init__(self, intervals, coarsening, dt=0.02, first=0):
        self.intervals, self.coarsening = intervals, coarsening
        steps = torch.arange(first * coarsening, (first + intervals) * coarsening, dtype=torch.float64)
        self.forcing, self.dt = torch.sin(steps).view(intervals, coarsening), dt
        self.states = torch.empty(coarsening, intervals, dtype=torch.float64)
        self.relaxations = 0
        self.kept = 0

    @staticmethod
    def of(dt, forces, coarsening):
        """Return the equation with one force (steps,) for each step."""
        equation = LogisticEquation(len(forces) // coarsening, coarsening, dt)
        equation.forcing = forces.view(-1, coarsening)
        return equation

    @property
    def sweeps(self):
        return self.relaxations

    def output(self):
        """Return the state after each step."""
        return self.states.t().flatten()

    def saved(self, points):
        """Return the state before each step."""
        return [torch.cat([points.unsqueeze(1), self.states.t()[:, :-1]], dim=1).flatten()]

    def relax(self, points, which, keep, group=None):
        self.relaxations += len(points) / max(self.intervals, 1)
        self.kept += keep
        u = points
        for k in range(self.coarsening):
            u = euler(u, self.forcing[which, k], self.dt)
            if keep:
                self.states[k, which] = u
        return u.clone()

    def coarse_level(self, for_guess):
        length = torch.full((self.intervals,), self.coarsening * self.dt, dtype=torch.float64)
        return EulerLevel(self.forcing.mean(1), length, self.short_first, self.sequential)

    def serial(self, initial):
        """Return the C-points and the end of the fine solution, one step after the other."""
        points, u = [], initial
        for interval in range(self.intervals):
            points.append(u)
            for k in range(self.coarsening):
                u = euler(u, self.forcing[interval, k], self.dt)
        return torch.stack(points), u
