"""A model that embeds faster, for the thousands of masked images of a query."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.fx.experimental.optimization import fuse

from fiftyone_sfam import EmbeddingModel

# Largest difference to the network as it is, relative to its largest value.
_ROUNDING = 1e-4


class FastModel(EmbeddingModel):
    """An embedding model that embeds by a folded copy of its network.

    Folding batch normalization into the convolutions changes embeddings by rounding
    only. Maps that need gradients or layers use the network as it is.
    """

    folded: Callable[[Tensor], Tensor] | None = None

    def fold(self, images: Tensor) -> None:
        """Fold the network, and check the result on prepared images (B, 3, H, W).

        Raises
        ------
        RuntimeError
            If the folded network embeds these images differently.
        """
        expected = super().embed(images)
        folded = fuse(self.network).to(memory_format=torch.channels_last)
        with torch.no_grad():
            error = (folded(images) - expected).abs().max() / expected.abs().max()
        if not error < _ROUNDING:
            raise RuntimeError(
                f"folded, model '{self.name}' differs by {float(error):.1e} of its "
                "largest value; embed with the network as it is."
            )
        self.folded = folded

    def embed(self, images: Tensor) -> Tensor:
        """Compute embeddings (B, D) of prepared images (B, 3, H, W)."""
        if self.folded is None:
            return super().embed(images)
        with torch.no_grad():
            return self.folded(images).float()
