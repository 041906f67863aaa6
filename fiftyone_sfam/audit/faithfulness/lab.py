"""Where images of a run are explained and masked, for a check of faithfulness."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fiftyone_sfam.attribution.maps import Weights, attribute
from fiftyone_sfam.attribution.path import (
    SCALES,
    STEPS,
    attribute_path,
    last_layers,
    path_layers,
)
from fiftyone_sfam.audit.faithfulness.masks import (
    Fill,
    MaskedEmbeddings,
    map_correlations,
    masked_embeddings,
    upsample,
)
from fiftyone_sfam.audit.regions.images import item_reader
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, similarity
from fiftyone_sfam.retrieval.embeddings import MISMATCH
from fiftyone_sfam.runs.run import Run

CENTRE = 0.25
"""Standard deviation of the centre prior, as a share of each side."""


def random_maps(count: int, shape: tuple[int, int], seed: int) -> Tensor:
    """Draw maps that know nothing."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def centre_prior(shape: tuple[int, int], share: float = CENTRE) -> Tensor:
    """Build the map that knows where photographers put things."""
    down, across = (
        torch.exp(-0.5 * (((torch.arange(size) + 0.5) / size - 0.5) / share) ** 2)
        for size in shape
    )
    return down[:, None] * across


def plain_activation(feature_map: Tensor) -> Tensor:
    """Build the map that knows the image but not its partner."""
    return feature_map.abs().sum(1)


PATH, SCALED, EVIDENCE, SFAM = "path", "path of several scales", "evidence", "sfam"
ACTIVATION, CENTRE_maps, CHANCE = "plain activation", "centre prior", "random"
BASELINES = (ACTIVATION, CENTRE_maps, CHANCE)
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
    maps[CENTRE_maps] = centre_prior(size)[None]
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


# Noise under which maps should stay the same, in standard deviations of the image.
_NOISE = 0.02


@dataclass
class Lab:
    """Explains and masks images; keeps what the measures need."""

    run: Run  # the run, and its model at the run's layer
    model: EmbeddingModel  # the run, and its model at the run's layer
    fill: Fill  # as in :func:`fiftyone_sfam.check_faithfulness`
    steps: int  # as in :func:`fiftyone_sfam.check_faithfulness`
    batch_size: int  # as in :func:`fiftyone_sfam.check_faithfulness`
    seed: int  # as in :func:`fiftyone_sfam.check_faithfulness`
    layers: Sequence[str] | str  # as in :func:`fiftyone_sfam.check_faithfulness`
    scaled: tuple[str, ...] | None = None  # layers of the path of several scales
    names: tuple[str, ...] = ()  # the maps, K of them
    masked: dict[int, MaskedEmbeddings] = field(default_factory=dict)
    specificity: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    stability: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    remainder: list[NDArray[np.float64]] = field(default_factory=list)  # (K,)
    skipped: dict[int, str] = field(default_factory=dict)

    def work(self, jobs: dict[int, list[int]]) -> Iterator[int]:
        """Mask the images of all jobs; yield how many are done."""
        read = item_reader(self.run, jobs)
        embeddings = torch.from_numpy(self.run.embeddings())
        for done, (item, sides) in enumerate(jobs.items(), 1):
            try:
                self._image(item, sides, read, embeddings)
            except DataError as error:
                self.skipped[item] = str(error)
            yield done

    def _image(
        self,
        item: int,
        sides: list[int],
        read: Callable[[int], tuple[Image.Image, tuple[int, int]]],
        embeddings: Tensor,
    ) -> None:
        image = self.model.prepare(read(item)[0])
        found = self.model.embed(image[None])[0].cpu()
        metric: Metric = self.model.metric
        if not 1 - float(similarity(found, embeddings[item], metric)) <= MISMATCH:
            raise DataError(
                "its embedding is not the run's any more; the file has changed."
            )
        partners = embeddings[self._others(sides)]
        explained = self._maps(image, partners, item)
        self.names = tuple(explained.maps)
        counts = [len(maps) for maps in explained.maps.values()]
        masked = masked_embeddings(
            self.model.embed,
            image,
            torch.cat(list(explained.maps.values())),
            steps=self.steps,
            fill=self.fill,
            batch_size=self.batch_size,
            seed=self.seed,
        )
        starts = np.cumsum([0, *counts[:-1]])
        for place, side in enumerate(sides):
            rows = starts + np.minimum(place, np.array(counts) - 1)
            self.masked[side] = MaskedEmbeddings(
                masked.deletion[rows], masked.insertion[rows]
            )
        scores = similarity(found, partners, metric).numpy()
        self._qualities(image, partners, item, explained, scores)

    def _others(self, sides: list[int]) -> list[int]:
        """Return the items on the other sides."""
        items = self.run.pairs.sides()
        return [int(items[side ^ 1]) for side in sides]

    def _maps(self, image: Tensor, partners: Tensor, item: int) -> ImageMaps:
        if isinstance(self.layers, str):
            self.layers = candidate_layers(self.model, image)
        if self.scaled is None:
            self.scaled = path_layers(self.model, image)
        return image_maps(
            self.model,
            image,
            partners,
            weights=self.run.config.weights,
            scaled=self.scaled,
            layers=self.layers,
            seed=self.seed + item,
        )

    def _qualities(
        self,
        image: Tensor,
        partners: Tensor,
        item: int,
        explained: ImageMaps,
        scores: NDArray[np.floating],
    ) -> None:
        """Note what can be said of maps without masking anything."""
        generator = torch.Generator().manual_seed(self.seed + item)
        noise = torch.randn(image.shape, generator=generator).to(image)
        changed = self._maps(
            image + _NOISE * float(image.std()) * noise, partners[:1], item
        )
        stable, specific, left = [], [], []
        for name, maps in explained.maps.items():
            stable.append(map_correlations(maps[:1], changed.maps[name][:1])[0])
            several = len(maps) > 1
            correlation = map_correlations(maps[:1], maps[1:2])[0] if several else 1.0
            specific.append(correlation if len(partners) > 1 else np.nan)
            rest = explained.remainders.get(name)
            shares = np.nan if rest is None else np.abs(rest.numpy() / scores).mean()
            left.append(shares)
        self.stability.append(np.array(stable))
        self.specificity.append(np.array(specific, dtype=np.float64))
        self.remainder.append(np.array(left, dtype=np.float64))
