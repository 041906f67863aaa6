"""Maps on the demo world, where what two pictures share is known.

Two pictures of an ordinary person by two cameras share the person. Two people who are
always seen before the same striking wall share the wall: towards the other one, the map
belongs on the background. A map's score is the share of its positive part in the right
region, averaged over both kinds of pairs; the share of the area is what a flat map has.

Usage: ``python benchmarks/faithfulness.py --demo``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

SEEDS = (1, 2, 3, 4, 5)
PAIRS = 60
AREA = "flat map (share of the area)"


def main(out: Path, seeds: tuple[int, ...] = SEEDS, pairs: int = PAIRS) -> int:
    """Measure all seeds, print the table, and write ``faithfulness_demo.json``."""
    found = {str(seed): measure(seed, pairs) for seed in seeds}
    out.mkdir(parents=True, exist_ok=True)
    path = out / "faithfulness_demo.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))
    return 0


def measure(seed: int, pairs: int) -> dict[str, dict[str, float]]:
    """Score all maps in the world of a seed: name to kind of pair to mean share."""
    import torch

    from fiftyone_sfam.attribution.scales import path_layers
    from fiftyone_sfam.audit.faithfulness.maps import image_maps
    from fiftyone_sfam.demo.world import generate_world, render
    from fiftyone_sfam.models import load_model

    crops = generate_world(seed).crops
    model = load_model("demo")
    drawn = [render(crop) for crop in crops]
    images = torch.stack([model.prepare(one.image) for one in drawn])
    embeddings = torch.cat([model.embed(part) for part in images.split(64)])
    layers = path_layers(model, images[0])
    height, width = images.shape[-2:]
    generator = np.random.default_rng(seed)
    shares: dict[str, dict[str, list[float]]] = {}
    for kind, listed in (("person", person_pairs(crops)), ("wall", wall_pairs(crops))):
        for place in generator.permutation(len(listed))[:pairs]:
            query, partner = listed[place]
            region = region_of(drawn[query].mask, (height, width), kind)
            found = image_maps(
                model,
                images[query],
                embeddings[[partner]],
                scaled=layers,
                seed=int(place),
            )
            for name, maps in {
                **found.maps,
                AREA: torch.ones(1, *region.shape),
            }.items():
                share = positive_share(maps[0].numpy(), region)
                shares.setdefault(name, {}).setdefault(kind, []).append(share)
    return {
        name: {kind: float(np.nanmean(values)) for kind, values in kinds.items()}
        for name, kinds in shares.items()
    }


def person_pairs(crops: tuple[Any, ...]) -> list[tuple[int, int]]:
    """List pairs of an ordinary person's pictures by different cameras."""
    return [
        (one, other)
        for one, first in enumerate(crops)
        for other, second in enumerate(crops)
        if not first.defects
        and not second.defects
        and first.true_identity == second.true_identity
        and first.camera != second.camera
    ]


def wall_pairs(crops: tuple[Any, ...]) -> list[tuple[int, int]]:
    """List pairs of different people before the same striking wall."""
    return [
        (one, other)
        for one, first in enumerate(crops)
        for other, second in enumerate(crops)
        if "shortcut" in first.defects
        and "shortcut" in second.defects
        and first.true_identity != second.true_identity
    ]


def region_of(person: np.ndarray, size: tuple[int, int], kind: str) -> np.ndarray:
    """Bring the right region to the pixels of the network's input."""
    rows, columns = (
        (np.arange(length) * whole) // length
        for length, whole in zip(size, person.shape, strict=True)
    )
    resized = person[np.ix_(rows, columns)]
    return resized if kind == "person" else ~resized


def positive_share(values: np.ndarray, region: np.ndarray) -> float:
    """Return the share of the map's positive part in a region; NaN without one."""
    positive = np.maximum(values, 0)
    total = positive.sum()
    return float(positive[region].sum() / total) if total > 0 else float("nan")


def table(found: dict[str, dict[str, dict[str, float]]]) -> str:
    """Write the scores as Markdown: mean over seeds, least and largest."""
    names = list(next(iter(found.values())))
    rows = []
    for name in names:
        person, wall = (
            np.array([seed[name][kind] for seed in found.values()])
            for kind in ("person", "wall")
        )
        score = (person + wall) / 2
        rows.append((score.mean(), name, person, wall, score))
    rows.sort(key=lambda row: -row[0])
    head = (
        "| map | score (least to largest seed) | on the person, true matches | "
        "on the wall, people who share it |\n|---|---|---|---|"
    )
    body = [
        f"| {name} | {mean:.3f} ({score.min():.3f} to {score.max():.3f}) | "
        f"{person.mean():.3f} | {wall.mean():.3f} |"
        for mean, name, person, wall, score in rows
    ]
    return "\n".join([head, *body])
