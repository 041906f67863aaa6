"""The maps of an image that a check of faithfulness compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fiftyone_sfam.attribution.maps import Weights, attribute
from fiftyone_sfam.attribution.path import SCALES, STEPS, attribute_path, last_layers
from fiftyone_sfam.audit.faithfulness.baselines import (
    centre_prior,
    plain_activation,
    random_maps,
)
from fiftyone_sfam.audit.faithfulness.masks import upsample
from fiftyone_sfam.network.embedder import EmbeddingModel

PATH, SCALED, EVIDENCE, SFAM = "path", "path of several scales", "evidence", "sfam"
ACTIVATION, CENTRE, CHANCE = "plain activation", "centre prior", "random"
BASELINES = (ACTIVATION, CENTRE, CHANCE)
"""What every check compares with, whatever else it looks at."""


@dataclass(frozen=True)
class ImageMaps:
    """Maps of one image towards P partners."""

    maps: dict[str, Tensor]  # (P, H, W)
    remainders: dict[str, Tensor]  # (P,)


def at_layer(layer: str) -> str:
    """Name the evidence at another layer."""
    return f"{EVIDENCE} at {layer}"


def image_maps(
    model: EmbeddingModel,
    image: Tensor,
    partners: Tensor,
    *,
    weights: Weights = "signed",
    scaled: Sequence[str] = (),
    layers: Sequence[str] = (),
    seed: int = 0,
) -> ImageMaps:
    """Compute all maps of an image."""
    size = (int(image.shape[-2]), int(image.shape[-1]))
    path = attribute_path(model, image, partners)
    several = attribute_path(
        model,
        image,
        partners,
        steps=2 * STEPS,
        scales=SCALES,
        layers=scaled,
    )
    head = model.linearize(image[None])
    rows = torch.zeros(len(partners), dtype=torch.long, device=head.leaf.device)
    found = attribute(head, rows, partners, model.metric, weights)
    maps = {
        PATH: path.path,
        SCALED: several.path,
        EVIDENCE: found.evidence,
        SFAM: found.sfam,
    }
    remainders = {
        PATH: path.remainder,
        SCALED: several.remainder,
        EVIDENCE: found.remainder,
    }
    for layer in layers:
        other = model.with_layer(layer).linearize(image[None])
        evidence = attribute(other, rows, partners, model.metric)
        maps[at_layer(layer)] = evidence.evidence
        remainders[at_layer(layer)] = evidence.remainder
    shape = (int(head.leaf.shape[2]), int(head.leaf.shape[3]))
    maps[ACTIVATION] = plain_activation(head.feature_map)
    maps[CENTRE] = centre_prior(size)[None]
    maps[CHANCE] = random_maps(1, shape, seed)
    return ImageMaps(
        {name: upsample(one.detach().cpu(), size) for name, one in maps.items()},
        {name: one.detach().float().cpu() for name, one in remainders.items()},
    )


def candidate_layers(model: EmbeddingModel, image: Tensor) -> tuple[str, ...]:
    """Find the layers at which evidence may be worth a look."""
    chosen = last_layers(model, image)
    own = model.find_layer(image[None]).name
    names = sorted(chosen, key=lambda shape: shape[0] * shape[1])
    return tuple(chosen[shape] for shape in names if chosen[shape] != own)
