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
    """Results that do not say what they seem to, as maps that carry no similarity."""


class ProtocolWarning(SfamWarning):
    """A protocol whose measures are not defined, or say nothing."""


class WorkerError(RunError):
    """Workers that died during a run, which can be resumed."""
