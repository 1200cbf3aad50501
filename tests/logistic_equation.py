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


def euler(u, forcing, dt):
    return u + dt * (u * (1 - u) + forcing)


class LogisticEquation:
    """The same with fine steps of `dt`, intervals `first` to `first + intervals - 1`. Not a GRU at all."""

    short_first = False
    together = 3
    groups = (slice(None),)
    sequential = "gathered"

    def __init__(self, intervals, coarsening, dt=0.02, first=0):
        self.intervals, self.coarsening = intervals, coarsening
        steps = torch.arange(first * coarsening, (first + intervals) * coarsening, dtype=torch.float64)
        self.forcing, self.dt = torch.sin(steps).view(intervals, coarsening), dt
        self.states = torch.empty(coarsening, intervals, dtype=torch.float64)
        self.relaxations = 0
        self.kept = 0

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
