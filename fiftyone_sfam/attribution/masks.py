"""Maps of models whose layers are hidden, by hiding parts of the image at random.

Many random masks hide parts of an image. The map is, at each pixel, the correlation
over all masks of the similarity of the masked image with whether the pixel was visible,
as in CorrRISE (Y. Lu, Z. Xu, T. Ebrahimi, "Towards Visual Saliency Explanations of Face
Verification", 2023). The masks are those of RISE (V. Petsiuk, A. Das, K. Saenko, "RISE:
Randomized Input Sampling for Explanation of Black-box Models", 2018): coarse random
grids, enlarged smoothly and shifted. Hidden pixels get the image's mean color.

These maps do not add up to the score, and they depend on the masks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from fiftyone_sfam.attribution.maps import check_embeddings
from fiftyone_sfam.attribution.reading import (
    ImageLike,
    prepare_images,
    with_inputs_of,
)
from fiftyone_sfam.data.notebook import NotebookResult
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.models.wrap import ModelLike, as_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import Metric, distance, similarity
from fiftyone_sfam.network.opaque import OpaqueModel
from fiftyone_sfam.network.preprocess import Box

# Cells of a mask along the longer side of the image.
_CELLS = 8
# Probability that a cell is visible.
_VISIBLE = 0.5
# Masked images that are embedded at once.
_BATCH = 32


@dataclass(frozen=True, kw_only=True)
class MaskExplanation(NotebookResult):
    """How the similarity of two images depends on what is visible in each.

    Returned by :func:`explain_by_masks`. The maps are not additive: they hold
    correlations, no shares of the score, so they have no remainder, and sums over
    regions mean nothing. They also vary with the seed.

    Attributes
    ----------
    score : float
        Similarity of the images, in [-1, 1].
    distance : float
        The metric's distance: ``1 - score`` or the Euclidean one.
    query, gallery : ndarray of float32
        Correlation of the similarity with the visibility of each pixel of the network's
        input, in [-1, 1], shape (H, W).
    query_crop, gallery_crop : tuple of float
        Relative left, top, right and bottom of the part of each image that the network
        saw.
    metric, model : str
        Metric, and name of the model.
    masks, seed : int
        Number of masks per image, and seed of their generator.
    additive : bool
        False.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import OpaqueModel, Preprocessing, explain_by_masks
    >>> model = OpaqueModel(lambda x: x[:, :, :8].mean((2, 3)), Preprocessing((16, 8)))
    >>> images = [Image.linear_gradient("L").rotate(angle) for angle in (0, 90)]
    >>> result = explain_by_masks(model, *images, masks=20, seed=1)
    >>> result.gallery.shape, result.masks, result.seed
    ((16, 8), 20, 1)
    """

    score: float
    distance: float
    query: NDArray[np.float32] = field(repr=False)
    gallery: NDArray[np.float32] = field(repr=False)
    query_crop: Box = field(repr=False)
    gallery_crop: Box = field(repr=False)
    metric: Metric
    model: str
    masks: int
    seed: int
    additive: bool = field(default=False, init=False)
    # As they were given; a notebook reads them again.
    _images: tuple[ImageLike, ...] = field(default=(), repr=False)


def explain_by_masks(
    model: OpaqueModel | ModelLike,
    query: ImageLike,
    gallery: ImageLike,
    *,
    masks: int = 500,
    seed: int = 0,
) -> MaskExplanation:
    """Explain the similarity of two images by hiding parts of them at random.

    For models whose layers are hidden. The maps are not additive, and cost
    ``2 * masks`` embeddings; :func:`fiftyone_sfam.explain_pair` costs two passes, and
    its maps add up to the score.

    Parameters
    ----------
    model : OpaqueModel, or what explain_pair takes
        The model.
    query, gallery : path, Pillow image, FiftyOne sample, or tuple
        The images, as for :func:`fiftyone_sfam.explain_pair`.
    masks : int
        Number of random masks for each of the two images. More make a less noisy map.
    seed : int
        Seed of the masks. The same seed gives the same maps.

    Returns
    -------
    MaskExplanation
        Score, distance, and both images' maps.

    Raises
    ------
    DataError
        If an image cannot be read or has no usable embedding, or ``masks`` is less
        than 2.
    ModelError
        If the model cannot be run.

    Examples
    --------
    >>> from PIL import Image
    >>> from fiftyone_sfam import OpaqueModel, Preprocessing, explain_by_masks
    >>> model = OpaqueModel(lambda x: x[:, :, :8].mean((2, 3)), Preprocessing((16, 8)))
    >>> images = [Image.linear_gradient("L").rotate(angle) for angle in (0, 90)]
    >>> result = explain_by_masks(model, *images, masks=50)
    >>> result.query.shape, result.masks, result.additive
    ((16, 8), 50, False)
    """
    if isinstance(masks, bool) or not isinstance(masks, int) or masks < 2:
        raise DataError(f"masks is {masks!r}; give a whole number from 2.")
    images = [query, gallery]
    known = model if isinstance(model, OpaqueModel) else as_model(model)
    prepared, crops = prepare_images(known, images)
    models: list[OpaqueModel | EmbeddingModel] = [known, known]
    if isinstance(known, EmbeddingModel):
        given = with_inputs_of(known, images)
        ends = given.embed(prepared).cpu()
        models = [given._of_image(row) for row in (0, 1)]
    else:
        ends = known.embed(prepared)
    check_embeddings(known, ends)
    maps = [
        correlation_map(
            models[row].embed,
            prepared[row],
            ends[1 - row],
            metric=known.metric,
            masks=masks,
            seed=seed + row,
        )
        for row in (0, 1)
    ]
    ends = ends.double()
    return MaskExplanation(
        score=float(similarity(ends[0], ends[1], known.metric)),
        distance=float(distance(ends[0], ends[1], known.metric)),
        query=maps[0],
        gallery=maps[1],
        query_crop=crops[0],
        gallery_crop=crops[1],
        metric=known.metric,
        model=known.name,
        masks=masks,
        seed=seed,
        _images=(query, gallery),
    )


def correlation_map(
    embed: Callable[[Tensor], Tensor],
    image: Tensor,
    partner: Tensor,
    *,
    metric: Metric,
    masks: int,
    seed: int,
) -> NDArray[np.float32]:
    """Correlate the similarity to a partner with the visibility of each pixel."""
    generator = torch.Generator().manual_seed(seed)
    image = image.float()
    size = (int(image.shape[1]), int(image.shape[2]))
    mean = image.mean((1, 2), keepdim=True)
    scores: list[NDArray[np.float64]] = []
    totals = np.zeros((3, *size))  # of masks, their squares, and scores times masks
    for start in range(0, masks, _BATCH):
        visible = random_masks(min(_BATCH, masks - start), size, generator)
        masked = mean + visible[:, None] * (image - mean)
        found = similarity(embed(masked).cpu().double(), partner.double(), metric)
        # A masked image without an embedding is like nothing.
        part = np.nan_to_num(found.numpy(), nan=0, posinf=0, neginf=0)
        values = visible.double().numpy()
        scores.append(part)
        weighted = part[:, None, None] * values
        totals += [values.sum(0), np.square(values).sum(0), weighted.sum(0)]
    score = np.concatenate(scores)
    shown, squares, products = totals / masks
    covariance = products - shown * score.mean()
    spread = np.sqrt(np.clip(squares - shown**2, 0, None)) * score.std()
    is_known = spread > 1e-9
    return np.where(is_known, covariance / np.where(is_known, spread, 1), 0).astype(
        np.float32
    )


def random_masks(
    count: int, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Draw smooth masks with values from 0, hidden, to 1, visible; (count, H, W)."""
    longer = max(size)
    cells = [max(2, round(_CELLS * side / longer)) for side in size]
    cell = [math.ceil(side / n) for side, n in zip(size, cells, strict=True)]
    shape = (count, 1, cells[0] + 1, cells[1] + 1)
    grids = (torch.rand(shape, generator=generator) < _VISIBLE).float()
    enlarged = F.interpolate(
        grids,
        size=((cells[0] + 1) * cell[0], (cells[1] + 1) * cell[1]),
        mode="bilinear",
        align_corners=False,
    )[:, 0].clamp(0, 1)
    tops, lefts = (
        torch.randint(0, length, (count,), generator=generator).tolist()
        for length in cell
    )
    return torch.stack(
        [
            mask[top : top + size[0], left : left + size[1]]
            for mask, top, left in zip(enlarged, tops, lefts, strict=True)
        ]
    )
