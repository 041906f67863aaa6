"""Maps that mask an image and only see what the network says: RISE, SBSM and others.

As in ``faithfulness_methods.py``, a map is computed from a model, a prepared image
(3, H, W) and the embeddings of P partners (P, D). Papers call what speaks for the pair
a similarity map and what speaks against it a dissimilarity map; the signed map is the
first minus the second.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from fiftyone_sfam.attribution.path import blur
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.metric import similarity

Maps = Callable[[EmbeddingModel, Tensor, Tensor], Tensor]
RISE_CELLS = 7
SBSM_STEPS = 8
# Of CorrRISE: masks, squares per mask, and their side relative to the image's.
CORR_MASKS, CORR_SQUARES, CORR_SIDE = 500, 10, 30 / 112
# Of MinPlus: places per side, width of the Gaussian in places, and places taken.
MIN_PLUS_CELLS, MIN_PLUS_WIDTH, MIN_PLUS_STEPS = 7, 0.6, 6


def size_of(image: Tensor) -> tuple[int, int]:
    """Return height and width."""
    return int(image.shape[-2]), int(image.shape[-1])


def batch_of(image: Tensor) -> int:
    """Return how many images are embedded together: what stays in a cache is faster."""
    return 8 if image[0].numel() > 2**15 else 16


def black(model: EmbeddingModel, image: Tensor) -> Tensor:
    """Return a black image, prepared like an image (3, H, W)."""
    size = size_of(image)
    drawn = model.prepare(Image.new("RGB", size[::-1]))
    # A preparation may pad; what it does in the middle it does to all pixels.
    middle = drawn[:, drawn.shape[1] // 2, drawn.shape[2] // 2]
    return middle[:, None, None].expand(-1, *size)


def similarities(
    model: EmbeddingModel,
    image: Tensor,
    shown: Tensor,
    partners: Tensor,
    hidden: Tensor | None = None,
) -> Tensor:
    """Compare an image of which M masks (M, H, W) in [0, 1] show parts; return (P, M).

    What is not shown is that of ``hidden`` (3, H, W), by default blurred. A black image
    may be all zeros behind a ReLU, and is then like no other image.
    """
    other = blur(image[None]) if hidden is None else hidden[None]
    change = image[None] - other
    found = [
        model.embed(
            (other + part[:, None] * change).contiguous(
                memory_format=torch.channels_last
            )
        )
        for part in shown.split(batch_of(image))
    ]
    embeddings = torch.cat(found)
    scores = [similarity(embeddings, one, model.metric) for one in partners]
    if model.metric != "cosine":
        return torch.stack(scores)
    return torch.stack(scores).where(embeddings.any(dim=1), 0.0)


# --------------------------------------------------------------------------------------
# RISE and CorrRISE
# --------------------------------------------------------------------------------------


def rise_masks(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw the masks of RISE: coarse random cells, upsampled and shifted.

    Parameters
    ----------
    count : int
        Number of masks.
    size : tuple of int
        Height and width.
    seed : int
        Seed of the draws.

    Returns
    -------
    Tensor
        In [0, 1], shape (count, H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    typical = (size[0] * size[1]) ** 0.5
    cells = [max(2, round(RISE_CELLS * side / typical)) for side in size]
    steps = [-(-side // number) for side, number in zip(size, cells, strict=True)]
    coarse = torch.rand(count, 1, cells[0] + 1, cells[1] + 1, generator=generator) < 0.5
    large = F.interpolate(
        coarse.float(),
        size=[step * (cell + 1) for step, cell in zip(steps, cells, strict=True)],
        mode="bilinear",
        align_corners=False,
    )[:, 0]
    moves = [torch.randint(step, (count,), generator=generator) for step in steps]
    return torch.stack(
        [
            one[down : down + size[0], right : right + size[1]]
            for one, down, right in zip(
                large, *(m.tolist() for m in moves), strict=True
            )
        ]
    )


def square_masks(count: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    """Draw masks that hide squares at random places.

    Parameters
    ----------
    count : int
        Number of masks.
    size : tuple of int
        Height and width.
    seed : int
        Seed of the draws.

    Returns
    -------
    Tensor
        0 in the squares and 1 elsewhere, shape (count, H, W).
    """
    generator = torch.Generator().manual_seed(seed)
    side = max(1, round(CORR_SIDE * (size[0] * size[1]) ** 0.5))
    inside = []
    for length in size:
        # A square may reach over the border, so that pixels there are hidden as often.
        start = torch.randint(
            1 - side, length, (count, CORR_SQUARES, 1), generator=generator
        )
        place = torch.arange(length) - start
        inside.append((place >= 0) & (place < side))
    hidden = torch.einsum("msh,msw->mhw", inside[0].float(), inside[1].float())
    return (hidden == 0).float()


def correlations(masks: Tensor, scores: Tensor) -> Tensor:
    """Correlate being shown with the score, at each pixel.

    Parameters
    ----------
    masks : Tensor
        Shape (M, H, W).
    scores : Tensor
        Shape (P, M).

    Returns
    -------
    Tensor
        Pearson correlations, shape (P, H, W); 0 where a pixel is always shown.
    """
    centred = masks - masks.mean(0)
    scores = scores - scores.mean(1, keepdim=True)
    products = torch.einsum("pm,mhw->phw", scores, centred)
    spread = centred.square().sum(0).sqrt().clamp(min=1e-6)
    return products / spread / scores.norm(dim=1).clamp(min=1e-12)[:, None, None]


def rise(count: int) -> Maps:
    """Return two maps of RISE's masks: the correlation, and the weighted mean.

    V. Petsiuk, A. Das, K. Saenko (2018) average the masks, weighted by the score, and
    divide by the share that a mask shows: ``sum_m s_m M_m / (M E[M])``. The correlation
    is CorrRISE's formula with RISE's masks. Both blur what is hidden, as the measure
    does under one fill; the paper paints it black.
    """

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        masks = rise_masks(count, size_of(image))
        scores = similarities(model, image, masks, partners)
        mean = torch.einsum("pm,mhw->phw", scores, masks) / (count * masks.mean())
        return torch.stack([correlations(masks, scores), mean])

    return maps


def corr_rise(count: int) -> Maps:
    """Correlate, at each pixel, being shown with the similarity: CorrRISE.

    Y. Lu, Z. Xu, T. Ebrahimi, "Towards Visual Saliency Explanations of Face
    Verification", arXiv:2305.08546. Positive correlations are the similarity map,
    negative ones the dissimilarity map. Decided here: a mask hides ten squares with
    sides of 30 of 112 pixels, in black, and there are at most 500 masks.
    """

    def maps(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
        masks = square_masks(min(count, CORR_MASKS), size_of(image))
        scores = similarities(model, image, masks, partners, black(model, image))
        return correlations(masks, scores)

    return maps


# --------------------------------------------------------------------------------------
# MinPlus
# --------------------------------------------------------------------------------------


def gaussians(size: tuple[int, int]) -> Tensor:
    """Return the Gaussians of MinPlus, 1 in their middle, shape (places, H, W)."""
    profiles = []
    for length in size:
        step = length / MIN_PLUS_CELLS
        middles = (torch.arange(MIN_PLUS_CELLS) + 0.5) * step
        away = torch.arange(length) + 0.5 - middles[:, None]
        profiles.append(torch.exp(-0.5 * (away / (MIN_PLUS_WIDTH * step)) ** 2))
    return torch.einsum("ih,jw->ijhw", *profiles).flatten(0, 1)


def min_plus(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Average what removing and what adding places does: MinPlus.

    D. Mery, B. Morris, "True Black-Box Explanation in Facial Analysis", CVPR Workshops
    2022. Removing starts at the image, and each step hides the place that lowers the
    similarity most; adding starts at black, and each step shows the place that raises
    it most. A place's Gaussian counts as much as the similarity changed. Decided here:
    7 x 7 places, six steps, none that changes nothing, both maps divided by their
    largest values before they are averaged.
    """
    places, dark = gaussians(size_of(image)), black(model, image)
    whole = torch.stack([torch.zeros_like(places[0]), torch.ones_like(places[0])])
    ends = similarities(model, image, whole, partners, dark)
    first = [
        similarities(model, image, shown, partners, dark)
        for shown in (places, 1 - places)
    ]
    found = []
    for number, partner in enumerate(partners):

        def scores(shown: Tensor, partner: Tensor = partner) -> Tensor:
            return similarities(model, image, shown, partner[None], dark)[0]

        added = _greedy(
            lambda hidden: 1 - hidden * (1 - places),
            (1.0, ends[number, 0], first[0][number]),
            scores,
            places,
        )
        removed = _greedy(
            lambda shown: shown * (1 - places),
            (-1.0, ends[number, 1], first[1][number]),
            scores,
            places,
        )
        found.append((added + removed) / 2)
    return torch.stack(found)


def _greedy(
    masks: Callable[[Tensor], Tensor],
    start: tuple[float, Tensor, Tensor],
    scores: Callable[[Tensor], Tensor],
    places: Tensor,
) -> Tensor:
    """Take the place that changes the score most, and so on; return a map (H, W).

    What places leave of the mask is a product, so their order plays no part.
    """
    sign, score, after = start
    left, heat = torch.ones_like(places[0]), torch.zeros_like(places[0])
    for step in range(MIN_PLUS_STEPS):
        if step:
            after = scores(masks(left))
        gains = sign * (after - score)
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        heat += gains[best] * places[best]
        score, left = after[best], left * (1 - places[best])
    return heat / heat.max().clamp(min=1e-12)


# --------------------------------------------------------------------------------------
# SBSM
# --------------------------------------------------------------------------------------


def sbsm(model: EmbeddingModel, image: Tensor, partners: Tensor) -> Tensor:
    """Slide a window, as xaitk-saliency's SBSM does; what it hides is blurred."""
    from xaitk_saliency.impls.perturb_image.sliding_window import SlidingWindow
    from xaitk_saliency.utils.masking import weight_regions_by_scalar

    size = size_of(image)
    stride = tuple(max(1, side // SBSM_STEPS) for side in size)
    window = tuple(2 * step for step in stride)
    shown = SlidingWindow(window, stride).perturb(np.zeros(size))
    scores = similarities(model, image, torch.from_numpy(shown).float(), partners)
    whole = similarities(model, image, torch.ones(1, *size), partners)
    # Its own scoring clips what hiding a part improves; the signed drop ranks better.
    drops = (whole - scores).numpy().T
    return torch.from_numpy(weight_regions_by_scalar(drops, shown)).float()
