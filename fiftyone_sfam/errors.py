"""The exceptions that this package raises on purpose.

All of them are ``ValueError``: what a caller gave does not fit. Each message is one
sentence that names the thing and the way out, fit to be shown in a form of the App.
"""

from __future__ import annotations


class SfamError(ValueError):
    """Base class of the errors that this package raises on purpose."""


class ModelError(SfamError):
    """A model that cannot be loaded, split at a layer, or run."""


class NetworkError(ModelError):
    """A network that failed while it ran on images, possibly on these alone."""


class DataError(SfamError):
    """A dataset, a field or an embedding that cannot be used as asked."""


class RunError(SfamError):
    """A run that does not exist, exists already, or cannot be read."""


class SfamWarning(UserWarning):
    """Maps that were computed, but do not explain the similarity."""


class WorkerError(RunError):
    """Workers that died over a run; what they had stored can be gone on with."""
