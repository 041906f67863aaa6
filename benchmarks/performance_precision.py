"""What a lower precision up to the layer changes, and what it costs."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

import torch

from fiftyone_sfam.attribution.maps import attribute
from fiftyone_sfam.data.images import read_image
from fiftyone_sfam.network.embedder import EmbeddingModel

IMAGES = 32
REPEATS = 3


def compare_precisions(model: EmbeddingModel, paths: list[str]) -> dict[str, float]:
    """Explain pairs of successive images in bfloat16 and in float32.

    Returns
    -------
    dict
        ``bfloat16_score_gap``, the largest difference of a similarity;
        ``bfloat16_map_correlation``, the least correlation of two ``sfam`` maps;
        ``bfloat16_time``, the time of a forward pass over that in float32.
    """
    lower = EmbeddingModel(
        model.network,
        model.preprocess,
        metric=model.metric,
        layer=model.layer,
        precision="bfloat16",
    )
    images = torch.stack([model.prepare(read_image(one)) for one in paths[:IMAGES]])
    exact, about = explained(model, images), explained(lower, images)
    flat = (one.sfam.flatten(1).double() for one in (exact, about))
    centered = [one - one.mean(1, keepdim=True) for one in flat]
    correlations = torch.cosine_similarity(centered[0], centered[1], dim=1)
    times: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for _ in range(REPEATS):
        for one in (model, lower):
            start = time.perf_counter()
            one.linearize(images)
            times[one.precision].append(time.perf_counter() - start)
    return {
        "bfloat16_score_gap": float((exact.score - about.score).abs().max()),
        "bfloat16_map_correlation": float(correlations.min()),
        "bfloat16_time": median(times["bfloat16"]) / median(times["float32"]),
    }


def explained(model: EmbeddingModel, images: torch.Tensor) -> Any:
    """Explain each image's similarity with the next one."""
    head = model.linearize(images)
    rows = torch.arange(len(images))
    return attribute(head, rows, head.embedding.roll(-1, 0), model.metric)
