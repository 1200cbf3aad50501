"""How a job of several ranks speaks: log messages and warnings, once for all ranks."""

from seqbraid.messages.log import RankZeroHandler, messages_shown
from seqbraid.messages.rank_warnings import gather_warnings, warnings_in_one_line

__all__ = ["RankZeroHandler", "gather_warnings", "messages_shown", "warnings_in_one_line"]
