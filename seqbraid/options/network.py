"""What messages between ranks take, where they are simulated or only reckoned with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from seqbraid.options.declaring import Group, check, documented, option
from seqbraid.options.kinds import AT_LEAST_ZERO, POSITIVE

__all__ = ["NetworkOptions"]

_of_network = partial(option, group=Group("simulated network"))


@documented
@dataclass(frozen=True)
class NetworkOptions:
    """A network between ranks."""

    latency: float = _of_network(2e-6, AT_LEAST_ZERO, "seconds that every message takes", metavar="S")
    bandwidth: float = _of_network(10e9, POSITIVE, "bytes of a message in a second", metavar="R")

    def __post_init__(self) -> None:
        check(self)
