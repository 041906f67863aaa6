"""Maps of composites, where what two images share is known.

One half of a person's image (left, right, upper or lower) is pasted into another
person's, at the same place, and the composite is explained towards another image of the
first person. The idea is that of Patch-LFW (M. Huber et al., arXiv:2304.13409). What
raised the similarity is that half, so the map belongs there. Two scores: the
probability that a pixel of the half has a larger value than one outside, and the share
of the map's positive part that is on it. All four sides count alike, so a map that is
always the same, as the centre prior, has 0.5 in both.

A composite is kept if the pair that the half is of is accepted, the pair that the rest
is of is rejected, and the half closes at least a quarter of the gap between the two
similarities. Its border is faded over a sixteenth of the image, so that no edge gives
it away.

Usage: ``python benchmarks/faithfulness.py --pasted``; ``--pairs`` is the number of
composites that are drawn.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from faithfulness_demo import positive_share
from faithfulness_table import interval
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.curves import ratio_estimate
from fiftyone_sfam.audit.statistics.bootstrap import Estimate
from fiftyone_sfam.network.metric import similarity

SIDES = ("left", "right", "upper", "lower")
# Width of the faded border, relative to the image's side.
FADED = 1 / 16
RISE = 0.25
"""Least rise of the similarity, as a share of the gap that the half could close."""


@dataclass(frozen=True)
class Composite:
    """An image with half of another one, and an image that this half is like."""

    base: int
    half: int
    partner: int
    side: str


def draw(
    number: int, genuine: NDArray[np.bool_], impostor: NDArray[np.bool_]
) -> Composite:
    """Draw a composite; its number is the seed, and the sides take turns."""
    generator = np.random.default_rng((0, number))
    half = int(generator.choice(np.flatnonzero(genuine.any(axis=1))))
    partner = int(generator.choice(np.flatnonzero(genuine[half])))
    base = int(generator.choice(np.flatnonzero(impostor[half])))
    return Composite(base, half, partner, SIDES[number % len(SIDES)])


def opacity(size: tuple[int, int], side: str) -> Tensor:
    """Return how much of the half is seen at each pixel, in [0, 1], shape (H, W)."""
    across = side in ("left", "right")
    length = size[1] if across else size[0]
    before = length / 2 - (torch.arange(length) + 0.5)
    profile = (before / (FADED * length) + 0.5).clamp(0, 1)
    if side in ("right", "lower"):
        profile = 1 - profile
    return (profile if across else profile[:, None]).expand(size)


def paste(base: Tensor, half: Tensor, seen: Tensor) -> Tensor:
    """Paste a part of one image (3, H, W) into another."""
    return base + seen * (half - base)


def rises(
    of_base: float, of_half: float, of_composite: float, threshold: float
) -> bool:
    """Tell whether a patch decides enough about the similarity to be the answer."""
    if not of_base < threshold <= of_half:
        return False
    return of_composite - of_base >= RISE * (of_half - of_base)


def ranked_inside(values: NDArray[np.floating], region: NDArray[np.bool_]) -> float:
    """Return the probability that a pixel in a region ranks above one outside."""
    ranks = rankdata(values)[region.ravel()]
    inside, outside = len(ranks), region.size - len(ranks)
    return float((ranks.mean() - (inside + 1) / 2) / outside)


def measure(title: str, arguments: argparse.Namespace) -> None:
    """Draw the composites of a network that have no line yet, and score their maps."""
    import faithfulness

    data = faithfulness.load_data(
        title, arguments.assets, faithfulness.HALVES[arguments.half]
    )
    threshold = faithfulness.threshold(data)
    compared = faithfulness.listed(title, False, arguments.masks, threshold)
    path = faithfulness.lines_path(arguments, title)
    settings = {
        "network": title,
        "half": arguments.half,
        "masks": arguments.masks,
        "images": len(data.images),
        "threshold": threshold,
        "methods": [method.name for method in compared],
    }
    done = faithfulness.resume(path, settings, key="number")
    genuine, impostor = faithfulness.kinds_of(data)
    for number in range(arguments.pairs):
        if number not in done:
            composite = draw(number, genuine, impostor)
            line = _scores(data, composite, compared, threshold)
            with path.open("a") as file:
                file.write(json.dumps({"number": number, **line}) + "\n")


def _scores(
    data: Any, composite: Composite, compared: tuple[Any, ...], threshold: float
) -> dict[str, Any]:
    """Score all maps of a composite; a line without scores if it is not kept."""
    from faithfulness import explain

    base, half = data.images[composite.base], data.images[composite.half]
    seen = opacity((base.shape[-2], base.shape[-1]), composite.side)
    image = paste(base, half, seen)
    partner = data.embeddings[composite.partner]
    embeddings = torch.stack(
        [
            data.embeddings[composite.base],
            data.embeddings[composite.half],
            data.model.embed(image[None])[0],
        ]
    )
    alike = similarity(embeddings, partner, data.model.metric).tolist()
    of_base, of_half, of_composite = alike
    line: dict[str, Any] = {
        "base": composite.base,
        "side": composite.side,
        "similarities": alike,
    }
    if not rises(of_base, of_half, of_composite, threshold):
        return line
    region = (seen > 0.5).numpy()
    found, _ = explain(compared, data.model, image, partner[None])
    maps = {name: one[0].numpy() for name, one in found}
    line["share"] = {name: positive_share(one, region) for name, one in maps.items()}
    line["ranked"] = {name: ranked_inside(one, region) for name, one in maps.items()}
    return line


def summarize(settings: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the scores of each map over composites, with 95 % intervals."""
    kept = [line for line in lines if "share" in line]
    queries = np.array([line["base"] for line in kept])
    sides = np.array([line["side"] for line in kept])
    rows = []
    for name in settings["methods"]:
        row: dict[str, Any] = {"method": name}
        for score in ("share", "ranked"):
            values = np.array([line[score][name] for line in kept], dtype=np.float64)
            known = ~np.isnan(values)
            row[score] = asdict(_balanced(values[known], sides[known], queries[known]))
        rows.append(row)
    rows.sort(key=lambda row: -row["ranked"]["value"])
    counts = {side: int((sides == side).sum()) for side in SIDES}
    return {
        **settings,
        "drawn": len(lines),
        "kept": len(kept),
        "sides": counts,
        "rows": rows,
    }


def _balanced(
    values: NDArray[np.float64], sides: NDArray[Any], queries: NDArray[np.integer]
) -> Estimate:
    """Estimate the mean to which all sides contribute alike."""
    _, place, counts = np.unique(sides, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[place]
    return ratio_estimate(weights * values, weights, queries)


def table(figures: dict[str, Any]) -> str:
    """Write a network's figures as Markdown."""
    sides = ", ".join(f"{side} {n}" for side, n in figures["sides"].items())
    head = (
        f"### {figures['network']}\n\n{figures['kept']} of {figures['drawn']} drawn "
        f"composites ({sides}).\n\n| map | half above the rest | positive part on the "
        "half |\n|---|---|---|"
    )
    body = [
        f"| {row['method']} | {interval(row['ranked'], 3)} | "
        f"{interval(row['share'], 3)} |"
        for row in figures["rows"]
    ]
    return "\n".join([head, *body])
