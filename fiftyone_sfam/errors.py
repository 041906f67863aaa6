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
