"""Networks that look at one part of the image, and images for them."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import torch
from PIL import Image
from torch import nn

from fiftyone_sfam import (
    EmbeddingModel,
    Preprocessing,
    Protocol,
    Run,
    explain_retrieval,
)
from fiftyone_sfam.audit.faithfulness.maps import center_prior

SIZE = 24
CORNER = 12


class LooksAtACorner(nn.Module):
    """Only the upper left quarter of the image counts; the map may be displaced."""

    def __init__(self, displaced: int = 0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(3, 8, 4, stride=4)
        self.map = nn.Identity()
        self.displaced = displaced

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = torch.full_like(images, 0.03)
        mask[:, :, :CORNER, :CORNER] = 1
        maps = self.convolution(images * mask)
        return self.map(maps.roll((self.displaced,) * 2, (2, 3))).flatten(1)


class LooksAtTheMiddle(nn.Module):
    """A pixel counts as much as the centre prior has there."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Identity()
        self.register_buffer("weights", center_prior((SIZE, SIZE)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.map(images * self.weights).flatten(1)


def model_of(network: nn.Module, mean: float = 0.5) -> EmbeddingModel:
    preprocess = Preprocessing((SIZE, SIZE), mean=(mean,) * 3, std=(0.3,) * 3)
    return EmbeddingModel(
        network.eval(), preprocess, layer="map", layout="NCHW", name="made by hand"
    )


def blobs(identity: int, shot: int) -> np.ndarray:
    """Smooth blobs: in the corner those of the identity, elsewhere the shot's own."""
    noise = np.random.default_rng(100 * identity + shot).integers(0, 256, (6, 6, 3))
    own = np.random.default_rng(identity).integers(0, 256, (3, 3, 3))
    noise[:3, :3] = (3 * own + noise[:3, :3]) // 4
    small = Image.fromarray(noise.astype(np.uint8))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.NEAREST))


def one_color(identity: int, shot: int) -> np.ndarray:
    color = np.random.default_rng(identity).integers(40, 200, 3) + shot
    return np.full((SIZE, SIZE, 3), color, dtype=np.uint8)


def dataset_of(folder: Path, picture, identities: int = 10) -> fo.Dataset:
    dataset = fo.Dataset()
    for identity in range(identities):
        for shot in range(3):
            path = folder / f"{identity}_{shot}.png"
            Image.fromarray(picture(identity, shot)).save(path)
            dataset.add_sample(fo.Sample(str(path), identity=f"p{identity}"))
    return dataset


def explained(dataset: fo.Dataset, model: EmbeddingModel, **options) -> Run:
    settings = {"k": 4, "protocol": Protocol("identity"), "overwrite": True, **options}
    return explain_retrieval(dataset, model, **settings)
