"""What can be said about a model without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from fiftyone_sfam.network.metric import Metric

Source = Literal["registry", "preset", "zoo"]


@dataclass(frozen=True)
class ModelInfo:
    """A model that :func:`fiftyone_sfam.models.load_model` knows by name.

    Attributes
    ----------
    name : str
        What to give to ``load_model``.
    source : {"registry", "preset", "zoo"}
        Where the name was found: the owner's registry file, this package, or
        FiftyOne's model zoo.
    metric : {"cosine", "euclidean"}
        How its embeddings are meant to be compared.
    description : str
        One line, possibly empty.
    """

    name: str
    source: Source
    metric: Metric
    description: str
