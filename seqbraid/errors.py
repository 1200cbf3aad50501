"""Errors that tell a person what to mend; the command line prints them as one line, without a traceback."""

__all__ = ["CommunicationError", "DataError", "OptionsError", "SeqbraidError", "WeightsUnavailableError"]


class SeqbraidError(Exception):
    """Base of every error that names an offending value and its remedy."""

    exit_code = 2


class DataError(SeqbraidError, ValueError):
    """A data set, feature store, clip or run folder is missing, damaged or of the wrong form."""


class OptionsError(SeqbraidError, ValueError):
    """Options that do not fit together or do not fit the data."""


class WeightsUnavailableError(SeqbraidError):
    """Pretrained weights could not be had (no network, no file)."""

    exit_code = 4


class CommunicationError(SeqbraidError, RuntimeError):
    """MPI is missing, or a rank did not take part in a collective call in time."""
