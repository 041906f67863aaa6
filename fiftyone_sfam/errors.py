"""The exceptions that this package raises on purpose.

All of them are ``ValueError``. Each message is one sentence that says what is wrong and
what to do, so that a form of the App can show it as it is.
"""

from __future__ import annotations


class SfamError(ValueError):
    """Base class of the errors that this package raises on purpose."""


class ModelError(SfamError):
    """A model that cannot be loaded, split at a layer, or run."""


class NetworkError(ModelError):
    """A network that failed on images; it may work on others."""


class DataError(SfamError):
    """A dataset, a field or an embedding that cannot be used as asked."""


class RunError(SfamError):
    """A run that does not exist, already exists, or cannot be read."""


class SfamWarning(UserWarning):
    """Maps that were computed but do not explain the similarity."""


class WorkerError(RunError):
    """Workers that died during a run, which can be resumed."""


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its final period."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")


def type_and_first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message, if it has one."""
    name, line = type(error).__name__, first_line(error)
    return name if line == name else f"{name}: {line}"
