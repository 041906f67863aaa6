"""What a network gives that cannot be used: no numbers, or no direction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fiftyone_sfam.errors import DataError

if TYPE_CHECKING:
    from fiftyone_sfam.attribution.maps import Attribution
    from fiftyone_sfam.network.embedder import EmbeddingModel


def check_embeddings(model: EmbeddingModel, embeddings: Tensor) -> None:
    """Refuse embeddings of which one has no similarity to anything."""
    if not bool(torch.isfinite(embeddings).all()):
        raise DataError(
            f"model '{model.name}' gives one of the images an embedding with NaN or "
            "infinity; its similarity is not defined."
        )
    if not bool((embeddings.abs().sum(1) > 0).all()):
        raise DataError(
            f"model '{model.name}' gives one of the images a zero embedding; its "
            "similarity is not defined."
        )


def check_maps(model: EmbeddingModel, result: Attribution) -> None:
    """Refuse maps of which one is no numbers."""
    if not bool(finite_maps(result).all()):
        raise DataError(f"for one of the images {maps_problem(model)}")


def finite_maps(result: Attribution) -> Tensor:
    """Tell which maps are numbers."""
    maps = (result.evidence, result.sfam)
    finite = torch.isfinite(result.remainder)
    for values in maps:
        finite &= torch.isfinite(values).all(-1).all(-1)
    return finite


def maps_problem(model: EmbeddingModel) -> str:
    """Say that a network gives maps that are no numbers."""
    return (
        f"model '{model.name}' gives maps with NaN or infinity at layer "
        f"'{model.layer}': what follows the layer has no derivative there, or gives "
        "numbers out of range; check its weights, or name another layer."
    )
