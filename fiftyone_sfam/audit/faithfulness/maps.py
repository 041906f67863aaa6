"""Explain and mask images of a run, for a check of faithfulness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fiftyone_sfam.attribution.maps import Weights, attribute
from fiftyone_sfam.attribution.path import attribute_path
from fiftyone_sfam.attribution.scales import attribute_scales, last_layers, path_layers
from fiftyone_sfam.audit.faithfulness.masks import (
    PATCHES,
    Fill,
    MaskedEmbeddings,
    map_correlations,
    masked_embeddings,
    upsample,
)
from fiftyone_sfam.audit.faithfulness.result import (
    ACTIVATION,
    CENTER,
    CHANCE,
    EVIDENCE,
    PATH,
    SCALED,
    SFAM,
)
from fiftyone_sfam.audit.regions.causal import check_embedding
from fiftyone_sfam.audit.regions.images import item_reader
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.layouts import LayerInfo
from fiftyone_sfam.network.metric import similarity
from fiftyone_sfam.runs.images import ItemModels
from fiftyone_sfam.runs.run import Run

CENTER_WIDTH = 0.25
"""Standard deviation of the center prior, as a fraction of each side."""

_NO_DONOR = (
    "no other identity has an image to hide it with; choose another fill than "
    f"'{PATCHES}'."
)

# Noise under which maps should be stable, in standard deviations of the image.
_NOISE = 0.02


@dataclass(frozen=True)
class ImageMaps:
    """Maps of one image towards P partners, or one map for all partners."""

    maps: dict[str, Tensor]  # (P, H, W) or (1, H, W)
    remainders: dict[str, Tensor]  # (P,)


def random_maps(count: int, shape: tuple[int, int], seed: int) -> Tensor:
    """Draw maps of noise, shape (count, h, w)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def center_prior(shape: tuple[int, int], width: float = CENTER_WIDTH) -> Tensor:
    """Return a Gaussian blob in the middle of the image, shape (h, w)."""
    down, across = (
        torch.exp(-0.5 * (((torch.arange(size) + 0.5) / size - 0.5) / width) ** 2)
        for size in shape
    )
    return down[:, None] * across


def plain_activation(feature_map: Tensor) -> Tensor:
    """Sum a feature map over its channels; the result does not depend on a partner."""
    return feature_map.abs().sum(1)


def at_layer(layer: str) -> str:
    """Return the name of the evidence at another layer."""
    return f"{EVIDENCE} at {layer}"


def image_maps(
    model: EmbeddingModel,
    image: Tensor,
    partners: Tensor,
    *,
    weights: Weights = "signed",
    scaled: Sequence[LayerInfo] = (),
    layers: Sequence[str] = (),
    seed: int = 0,
) -> ImageMaps:
    """Compute all maps of an image (3, H, W) towards partners (P, D)."""
    size = (int(image.shape[-2]), int(image.shape[-1]))
    path = attribute_path(model, image, partners)
    head = model.linearize(image[None])
    rows = torch.zeros(len(partners), dtype=torch.long, device=head.leaf.device)
    several = attribute_scales(model, image[None], rows, partners, layers=scaled)
    attribution = attribute(head, rows, partners, model.metric, weights)
    maps = {
        PATH: path.path,
        SCALED: several.path,
        EVIDENCE: attribution.evidence,
        SFAM: attribution.sfam,
    }
    remainders = {
        PATH: path.remainder,
        SCALED: several.remainder,
        EVIDENCE: attribution.remainder,
    }
    for layer in layers:
        layer_head = model.with_layer(layer).linearize(image[None])
        attribution = attribute(layer_head, rows, partners, model.metric)
        maps[at_layer(layer)] = attribution.evidence
        remainders[at_layer(layer)] = attribution.remainder
    shape = (int(head.leaf.shape[2]), int(head.leaf.shape[3]))
    maps[ACTIVATION] = plain_activation(head.feature_map)
    maps[CENTER] = center_prior(size)[None]
    maps[CHANCE] = random_maps(1, shape, seed)
    return ImageMaps(
        {name: upsample(values.detach().cpu(), size) for name, values in maps.items()},
        {name: values.detach().float().cpu() for name, values in remainders.items()},
    )


def candidate_layers(model: EmbeddingModel, image: Tensor) -> tuple[str, ...]:
    """Return the last layer of each resolution, without the model's own layer."""
    layers = last_layers(model, image)
    model_layer = model.find_layer(image[None]).name
    shapes = sorted(layers, key=lambda shape: shape[0] * shape[1])
    names = [layers[shape].name for shape in shapes]
    return tuple(name for name in names if name != model_layer)


def draw_donors(
    identities: Sequence[str | None],
    usable: NDArray[np.bool_],
    involved: Mapping[int, Sequence[int]],
    seed: int,
) -> dict[int, int]:
    """Draw for each item an image of another identity than those it is involved with.

    Items for which there is none are missing.
    """
    names = np.array([name or "" for name in identities])
    donors = {}
    for item, others in involved.items():
        known = [name for name in names[list(others)] if name]
        possible = usable & ~np.isin(names, known)
        possible[list(others)] = False
        if possible.any():
            generator = np.random.default_rng((seed, item))
            donors[item] = int(generator.choice(np.flatnonzero(possible)))
    return donors


@dataclass(kw_only=True)
class ImageMasker:
    """Explains and masks images of a run, and keeps the results.

    Options are those of :func:`fiftyone_sfam.check_faithfulness`. K is the number of
    maps.
    """

    run: Run
    model: EmbeddingModel  # at the run's layer
    fills: tuple[Fill, ...]
    steps: int
    batch_size: int
    seed: int
    layers: Sequence[str] | str
    scaled: tuple[LayerInfo, ...] | None = None  # layers of the path of several scales
    names: tuple[str, ...] = ()  # of the maps
    models: ItemModels = field(init=False)  # the model for each item
    # By side, under each fill.
    masked: dict[int, tuple[MaskedEmbeddings, ...]] = field(default_factory=dict)
    specificity: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    stability: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    remainder: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    skipped: dict[int, str] = field(default_factory=dict)  # reasons, by item

    def mask(self, sides_of: dict[int, list[int]]) -> Iterator[int]:
        """Mask items, given the sides that each is on; yield how many are done."""
        donors = self._donors(sides_of) if PATCHES in self.fills else {}
        read = item_reader(self.run, {*sides_of, *donors.values()})
        embeddings = torch.from_numpy(self.run.embeddings())
        self.models = ItemModels(self.run, self.model, sides_of)
        for done, (item, sides) in enumerate(sides_of.items(), 1):
            try:
                other = None
                if PATCHES in self.fills:
                    if item not in donors:
                        raise DataError(_NO_DONOR)
                    other = self.model.prepare(read(donors[item])[0])
                self._mask_item(item, sides, read, embeddings, other)
            except DataError as error:
                self.skipped[item] = str(error)
            yield done

    def _mask_item(
        self,
        item: int,
        sides: list[int],
        read: Callable[[int], tuple[Image.Image, tuple[int, int]]],
        embeddings: Tensor,
        other: Tensor | None,
    ) -> None:
        image = self.model.prepare(read(item)[0])
        model = self.models.of(item)
        embedding = model.embed(image[None])[0].cpu()
        check_embedding(embedding, embeddings[item], self.model.metric)
        items = self.run.pairs.sides()
        partners = embeddings[[int(items[side ^ 1]) for side in sides]]
        explained = self._explain(image, partners, item)
        self.names = tuple(explained.maps)
        counts = np.array([len(maps) for maps in explained.maps.values()])
        masked = [
            masked_embeddings(
                model.embed,
                image,
                torch.cat(list(explained.maps.values())),
                steps=self.steps,
                fill=fill,
                other=other,
                batch_size=self.batch_size,
                seed=self.seed,
            )
            for fill in self.fills
        ]
        starts = np.cumsum(counts) - counts
        for index, side in enumerate(sides):
            rows = starts + np.minimum(index, counts - 1)
            self.masked[side] = tuple(
                MaskedEmbeddings(one.deletion[rows], one.insertion[rows])
                for one in masked
            )
        scores = similarity(embedding, partners, self.model.metric).numpy()
        self._measure(image, partners, item, explained, scores)

    def _donors(self, sides_of: dict[int, list[int]]) -> dict[int, int]:
        run, partners = self.run, self.run.pairs.sides()
        involved = {
            item: [item, *(int(partners[side ^ 1]) for side in sides)]
            for item, sides in sides_of.items()
        }
        usable = np.ones(len(run.items), dtype=bool)
        usable[[image.index for image in run.skipped]] = False
        return draw_donors(run.items.identities, usable, involved, self.seed)

    def _explain(self, image: Tensor, partners: Tensor, item: int) -> ImageMaps:
        model = self.models.of(item)
        if isinstance(self.layers, str):
            self.layers = candidate_layers(model, image)
        if self.scaled is None:
            self.scaled = path_layers(model, image)
        return image_maps(
            model,
            image,
            partners,
            weights=self.run.config.weights,
            scaled=self.scaled,
            layers=self.layers,
            seed=self.seed + item,
        )

    def _measure(
        self,
        image: Tensor,
        partners: Tensor,
        item: int,
        explained: ImageMaps,
        scores: NDArray[np.floating],
    ) -> None:
        """Measure the qualities of maps that need no masking."""
        generator = torch.Generator().manual_seed(self.seed + item)
        noise = torch.randn(image.shape, generator=generator).to(image)
        noisy = image + _NOISE * float(image.std()) * noise
        changed = self._explain(noisy, partners[:1], item)
        stability, specificity, remainder = [], [], []
        for name, maps in explained.maps.items():
            stability.append(map_correlations(maps[:1], changed.maps[name][:1])[0])
            correlation = np.nan
            if len(partners) > 1:
                # A map that ignores the partner is the same for all partners.
                correlation = 1.0
                if len(maps) > 1:
                    correlation = map_correlations(maps[:1], maps[1:2])[0]
            specificity.append(correlation)
            rest = explained.remainders.get(name)
            remainder.append(
                np.nan if rest is None else np.abs(rest.numpy() / scores).mean()
            )
        self.stability.append(np.array(stability))
        self.specificity.append(np.array(specificity, dtype=np.float64))
        self.remainder.append(np.array(remainder, dtype=np.float64))
