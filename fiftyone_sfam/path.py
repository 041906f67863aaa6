"""Maps along a path of images: what each place adds while a blurred image clears up.

The ``evidence`` of :mod:`fiftyone_sfam.attribution` splits the similarity of an image
as it is. How the similarity changes when a place is hidden is another question, and the
maps here answer it. They are this project's definition; the method is that of
integrated gradients (M. Sundararajan, A. Taly, Q. Yan, "Axiomatic Attribution for Deep
Networks", 2017) with a blurred image as the baseline, for a pair instead of a class::

    x(t) = blurred + t (image - blurred)             t from 0 to 1
    s(t) = similarity of x(t) with the partner       exact: Z moves along
    path = integral over t of  ds/dx * (image - blurred), summed over the colors

    sum(path) = s(1) - s(0),  so  sum(path) + remainder = s(1)  with remainder = s(0)

The integral is a sum over a few steps, taken at their middles; what that leaves is part
of the remainder. Unlike ``evidence`` the full derivative of the similarity is taken: at
the image itself it vanishes for near-duplicates, along the path it does not.

One forward pass over the steps serves all partners of an image, and each partner costs
one backward pass over them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fiftyone_sfam.attribution import similarity
from fiftyone_sfam.blurring import BLUR, blur, smooth
from fiftyone_sfam.embedder import EmbeddingModel

STEPS = 4
"""Images along the path."""


@dataclass(frozen=True)
class PathAttribution:
    """One side of each of P pairs, explained along a path of images.

    Attributes
    ----------
    score : Tensor
        Similarity of the image, shape (P,).
    path : Tensor
        Signed, at the pixels of the network's input, shape (P, H, W), in units of the
        score.
    remainder : Tensor
        ``score - sum(path)``, shape (P,).
    blurred_score : Tensor
        Similarity of the blurred image, shape (P,): what the remainder is up to the
        error of the sum over the steps.
    """

    score: Tensor
    path: Tensor
    remainder: Tensor
    blurred_score: Tensor


def attribute_path(
    model: EmbeddingModel,
    image: Tensor,
    partners: Tensor,
    *,
    steps: int = STEPS,
    share: float = BLUR,
    smoothing: float = 0.0,
) -> PathAttribution:
    """Explain the similarity of an image with its partners along a path from a blur.

    Parameters
    ----------
    model : EmbeddingModel
        The network; its metric is the similarity.
    image : Tensor
        Prepared image, shape (3, H, W).
    partners : Tensor
        Embeddings of the partners, shape (P, D).
    steps : int
        Images along the path.
    share : float
        Standard deviation of the blur, as a share of the shorter side.
    smoothing : float
        Standard deviation of a blur of the map, as a share of the shorter side; its
        sum stays the same.

    Returns
    -------
    PathAttribution
        float32, on the network's device.

    Raises
    ------
    ModelError
        If the network cannot be differentiated down to its input.
    ValueError
        If there are no steps.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps!r}; a whole number from 1 is needed.")
    clear = image[None].to(model.device, torch.float32)
    start = blur(clear, share)
    middles = (torch.arange(steps, device=clear.device) + 0.5) / steps
    change = clear - start
    leaf, _, embeddings = model.record(start + middles[:, None, None, None] * change)
    maps = []
    with torch.inference_mode(False), torch.enable_grad():
        # What inference mode made cannot be part of a graph; a copy can.
        partners = partners.to(embeddings.device, torch.float32).clone()
        embeddings = embeddings.float()
        for partner in partners:
            along = similarity(embeddings, partner, model.metric).mean()
            (slope,) = torch.autograd.grad(along, leaf, retain_graph=True)
            maps.append((slope.float().sum(0) * change[0]).sum(0))
    path = torch.stack(maps)
    if smoothing > 0:
        path = smooth(path, smoothing)
    ends = model.embed(torch.cat([start, clear]))
    blurred, score = (similarity(end, partners, model.metric) for end in ends)
    return PathAttribution(score, path, score - path.sum((1, 2)), blurred)
