"""Maps of composites, where what two images share is known.

A patch of one person's image is pasted into another person's, at the same place, and
the composite is explained towards another image of the first person. The idea is that
of Patch-LFW (M. Huber et al., arXiv:2304.13409). What raised the similarity is the
patch, so the map belongs there. Two scores: the share of the map's positive part that
is on the patch, for which a flat map has the share of the area, and the probability
that a pixel of the patch has a larger value than one outside, for which a map without
information has 0.5.

A composite is kept if the pair that the patch is of is accepted, the other one is
rejected, and the patch closes a quarter of the gap between the two similarities. Its
border is faded over a sixteenth of the image, so that no edge gives it away.

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
from faithfulness_demo import AREA, positive_share
from faithfulness_table import interval
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor

from fiftyone_sfam.audit.faithfulness.curves import mean_estimate
from fiftyone_sfam.network.metric import similarity

# Sides of the patch and of its faded border, relative to the image's.
SIDE, FADED = 0.5, 1 / 16
RISE = 0.25
"""Least rise of the similarity, as a share of the gap that the patch could close."""


@dataclass(frozen=True)
class Composite:
    """An image with a patch of another one, and an image that the patch is like."""

    base: int
    patch: int
    partner: int
    corner: tuple[float, float]  # of the patch, as shares of what is left beside it


def draw(
    number: int, genuine: NDArray[np.bool_], impostor: NDArray[np.bool_]
) -> Composite:
    """Draw a composite; its number is the seed."""
    generator = np.random.default_rng((0, number))
    patch = int(generator.choice(np.flatnonzero(genuine.any(axis=1))))
    partner = int(generator.choice(np.flatnonzero(genuine[patch])))
    base = int(generator.choice(np.flatnonzero(impostor[patch])))
    down, across = generator.random(2).tolist()
    return Composite(base, patch, partner, (down, across))


def opacity(size: tuple[int, int], corner: tuple[float, float]) -> Tensor:
    """Return how much of the patch is seen at each pixel, in [0, 1], shape (H, W)."""
    profiles = []
    for length, place in zip(size, corner, strict=True):
        side = SIDE * length
        middle = place * (length - side) + side / 2
        away = (torch.arange(length) + 0.5 - middle).abs()
        profiles.append(((side / 2 - away) / (FADED * length) + 0.5).clamp(0, 1))
    return profiles[0][:, None] * profiles[1]


def paste(base: Tensor, patch: Tensor, seen: Tensor) -> Tensor:
    """Paste a patch of one image (3, H, W) into another."""
    return base + seen * (patch - base)


def rises(
    of_base: float, of_patch: float, of_composite: float, threshold: float
) -> bool:
    """Tell whether a patch decides enough about the similarity to be the answer."""
    if not of_base < threshold <= of_patch:
        return False
    return of_composite - of_base >= RISE * (of_patch - of_base)


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

    base, patch = data.images[composite.base], data.images[composite.patch]
    seen = opacity((base.shape[-2], base.shape[-1]), composite.corner)
    image = paste(base, patch, seen)
    partner = data.embeddings[composite.partner]
    embeddings = torch.stack(
        [
            data.embeddings[composite.base],
            data.embeddings[composite.patch],
            data.model.embed(image[None])[0],
        ]
    )
    alike = similarity(embeddings, partner, data.model.metric).tolist()
    line: dict[str, Any] = {"base": composite.base, "similarities": alike}
    if not rises(*alike, threshold):
        return line
    region = (seen > 0.5).numpy()
    found, _ = explain(compared, data.model, image, partner[None])
    maps = {name: one[0].numpy() for name, one in found}
    maps[AREA] = np.ones_like(maps["random"])
    line["share"] = {name: positive_share(one, region) for name, one in maps.items()}
    line["ranked"] = {name: ranked_inside(one, region) for name, one in maps.items()}
    return line


def summarize(settings: dict[str, Any], lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Average the scores of each map over composites, with 95 % intervals."""
    kept = [line for line in lines if "share" in line]
    queries = np.array([line["base"] for line in kept])
    rows = []
    for name in (*settings["methods"], AREA):
        row: dict[str, Any] = {"method": name}
        for score in ("share", "ranked"):
            values = np.array([line[score][name] for line in kept], dtype=np.float64)
            known = ~np.isnan(values)
            row[score] = asdict(mean_estimate(values[known], queries[known]))
        rows.append(row)
    rows.sort(key=lambda row: -row["ranked"]["value"])
    return {**settings, "drawn": len(lines), "kept": len(kept), "rows": rows}


def table(figures: dict[str, Any]) -> str:
    """Write a network's figures as Markdown."""
    head = (
        f"### {figures['network']}\n\n{figures['kept']} of {figures['drawn']} drawn "
        "composites.\n\n| map | patch above the rest | positive part on the patch |\n"
        "|---|---|---|"
    )
    body = [
        f"| {row['method']} | {interval(row['ranked'], 3)} | "
        f"{interval(row['share'], 3)} |"
        for row in figures["rows"]
    ]
    return "\n".join([head, *body])
