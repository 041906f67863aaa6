"""Models that come with this package or one of its extras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fiftyone_sfam.models.registry import ModelInfo

if TYPE_CHECKING:
    import torch

    from fiftyone_sfam.network.embedder import EmbeddingModel


@dataclass(frozen=True)
class Preset:
    """A packaged model."""

    info: ModelInfo  # name, metric and description
    build: Callable[[str | None, str | torch.device | None], EmbeddingModel]


def _demo(layer: str | None, device: str | torch.device | None) -> EmbeddingModel:
    """Load the network that was trained on the demo world."""
    from fiftyone_sfam.demo.network import DEMO_PREPROCESSING, load_demo_network
    from fiftyone_sfam.network.embedder import EmbeddingModel

    return EmbeddingModel(
        load_demo_network(), DEMO_PREPROCESSING, layer=layer, name="demo", device=device
    )


def _dlib_face(layer: str | None, device: str | torch.device | None) -> EmbeddingModel:
    """Load dlib's face recognition network."""
    from fiftyone_sfam.models.dlib_face import load_dlib_face

    return load_dlib_face(layer=layer, device=device)


PRESETS: tuple[Preset, ...] = (
    Preset(
        ModelInfo("demo", "preset", "cosine", "Small re-ID network of the demo people"),
        _demo,
    ),
    Preset(
        ModelInfo(
            "dlib-face",
            "preset",
            "euclidean",
            "dlib's ResNet-29 for aligned 150x150 face chips (extra [face]); finer "
            "maps at the layers conv256_2 and conv128_2",
        ),
        _dlib_face,
    ),
)
