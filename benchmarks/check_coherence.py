"""Measure whether the way places match tells false matches from true ones.

Runs the networks of the private assets over their images, takes the nearest images of
each query and its nearest strangers, and measures the features of
coherence_features.py for each of these pairs. A logistic regression, cross-validated by
the identity of the query, tells false from true matches by the similarity alone,
corrected for hubs (CSLS) or not, and with one feature added. Prints the average
precision of the false matches and the area under the ROC curve without and with each
feature, and the difference with its 95 % interval, for which the identities of queries
are drawn again. Writes ``benchmarks/out/coherence.json``: figures only, no names.

Usage: ``python benchmarks/check_coherence.py [--assets DIR] [--only TEXT]
[--images N] [--shrink TIMES] [--baseline CSLS|similarity]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from check_real import CASES, load_case
from coherence_features import (
    FEATURES,
    GROUPS,
    PlacedImage,
    background_of,
    centers,
    measure_pair,
    unit_vectors,
)
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from suspects_pool import list_images

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "coherence.json"
DESIGNS = {"rank 1 to 3": 3, "rank 1 to 10": 10}
"""Nearest images of each query whose pairs are told apart, and 3 strangers."""
CHOSEN = 3
STRANGERS = 10  # from which the level of an image is measured
FOLDS = 10
RESAMPLES = 500
BATCH = 32
NOISE = "a random number"
RELATIVE = ", relative"
FIGURES = ("AP", "AUC")

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """A network of check_real.py, at a layer."""

    title: str
    layer: str | None = None
    directions: int | None = None  # leading ones, to which contributions are projected


# Layers that are faster than the usual one, or have more places.
NETWORKS = (
    Network("osnet"),
    Network("osnet_onnx"),
    Network("mobilefacenet"),
    Network("hse_faceres"),
    Network("dlib", "conv128_2", 48),
    Network("edgeface", "stages.2"),
    Network("class_token_vit", "direct"),
)


@dataclass(frozen=True)
class Images:
    """N images of a collection, and how near they are to one another."""

    images: list[PlacedImage]
    people: Integers  # (N,)
    cameras: Integers  # (N,), -1 if unknown
    scales: Floats  # normalizers of the pairs, (N, N)
    nearness: Floats  # cosine, or minus the distance, (N, N)

    def ranking(self, row: int) -> Integers:
        """Rank the images of other cameras by nearness to a query.

        A person's images on one camera are alike for another reason, and a stranger's
        would give away that they are false.
        """
        order = np.argsort(-self.nearness[row], kind="stable")
        camera = self.cameras[row]
        return order[(order != row) & ((camera < 0) | (self.cameras[order] != camera))]

    @cached_property
    def strangers(self) -> Integers:
        """The nearest images of other identities, shape (N, STRANGERS)."""
        found = []
        for row, person in enumerate(self.people):
            ranking = self.ranking(row)
            found.append(ranking[self.people[ranking] != person][:STRANGERS])
        return np.stack(found)

    @cached_property
    def corrected(self) -> Floats:
        """Nearness less the level of both images among strangers (CSLS), (N, N)."""
        levels = np.take_along_axis(self.nearness, self.strangers, axis=1).mean(axis=1)
        return self.nearness - (levels[:, None] + levels) / 2


@dataclass(frozen=True)
class Pairs:
    """M pairs of a query and a neighbor."""

    query: Integers
    neighbor: Integers
    false: NDArray[np.bool_]
    people: Integers  # identity of the query
    features: dict[str, Floats]


def main() -> int:
    """Check all networks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="part of a network's title")
    parser.add_argument("--images", type=int, help="first images of each collection")
    parser.add_argument("--shrink", type=float, default=1, help="times, of each side")
    parser.add_argument("--baseline", choices=("CSLS", "similarity"), default="CSLS")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    report = {}
    for network in NETWORKS:
        if arguments.only in network.title:
            start = time.process_time()
            images = read_images(network, arguments)
            title = " ".join(filter(None, (network.title, network.layer)))
            report[title] = check(title, images, arguments.baseline)
            print(f"  {time.process_time() - start:.0f} s of a core", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    return 0


# --------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------


def read_images(network: Network, arguments: argparse.Namespace) -> Images:
    """Compute the contributions of the images of a network's collection."""
    import torch

    from fiftyone_sfam.attribution.contributions import leading_directions
    from fiftyone_sfam.data.images import read_image
    from fiftyone_sfam.network.metric import distance, normalizer
    from fiftyone_sfam.retrieval.search import encode

    titled = [case for case in CASES if case.title == network.title]
    model, folder = load_case(titled[0], arguments.assets)
    if network.layer is not None:
        model = model.with_layer(network.layer)
    paths, people, cameras = list_images(folder)
    paths = paths[: arguments.images]
    batches = []
    for start in range(0, len(paths), BATCH):
        read = [read_image(str(path)) for path in paths[start : start + BATCH]]
        small = [shrunk(image.convert("RGB"), arguments.shrink) for image in read]
        batches.append(torch.stack([model.prepare(image) for image in small]))
    with torch.inference_mode():
        joined = torch.cat([model.embed(batch) for batch in batches])
    basis = torch.eye(joined.shape[1])
    if network.directions is not None:
        basis = torch.tensor(leading_directions(joined.numpy(), network.directions))
    images: list[PlacedImage] = []
    for batch in batches:
        head = model.linearize(batch)
        values = head.position_contributions(basis).numpy()
        chosen = paths[len(images) : len(images) + len(batch)]
        maps = head.feature_map.flatten(2).transpose(1, 2).numpy()
        grid = head.feature_map.shape[2:]
        images += [
            PlacedImage(
                values[row],
                unit_vectors(maps[row]),
                maps[row].mean(axis=0),
                (basis @ head.embedding[row]).numpy(),
                centers(*grid),
                background_of(path, folder, *grid, padded=network.title == "edgeface"),
            )
            for row, path in enumerate(chosen)
        ]
    averages = unit_vectors(np.stack([image.average for image in images]))
    images = [
        replace(image, average=average)
        for image, average in zip(images, averages, strict=True)
    ]
    names, seen_by = encode([*people])[: len(paths)], encode(cameras)[: len(paths)]
    joined = joined.double()
    apart = distance(joined[:, None], joined, model.metric).numpy()
    scales = normalizer(joined[:, None], joined, model.metric).numpy()
    return Images(images, names, seen_by, scales, -apart)


def shrunk(image: Image.Image, times: float) -> Image.Image:
    """Shrink an image and enlarge it again, as if it had been small."""
    if times == 1:
        return image
    size = round(image.width / times), round(image.height / times)
    small = image.resize(size, Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BILINEAR)


# --------------------------------------------------------------------------------------
# Pairs
# --------------------------------------------------------------------------------------


class Measured:
    """The features of pairs, each measured once."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._known: dict[tuple[int, int], Floats] = {}
        self._strangers = images.strangers
        rows = np.repeat(np.arange(len(self._strangers)), STRANGERS)
        found = self.values(rows, self._strangers.ravel())
        self._levels = found.reshape(*self._strangers.shape, -1)

    def values(self, query: Integers, neighbor: Integers) -> Floats:
        """Return the features of pairs, shape (M, features)."""
        found = []
        for pair in zip(query.tolist(), neighbor.tolist(), strict=True):
            key = min(pair), max(pair)
            if key not in self._known:
                first, second = (self._images.images[place] for place in key)
                scale = float(self._images.scales[key])
                self._known[key] = measure_pair(first, second, scale)
            found.append(self._known[key])
        return np.stack(found)

    def levels(self, image: Integers, partner: Integers) -> Floats:
        """Return the mean features of images with their strangers.

        The partner of the pair is not among them.
        """
        others = self._strangers[image] != partner[:, None]
        values = np.where(others[:, :, None], self._levels[image], np.nan)
        known = np.isfinite(values)
        total = np.where(known, values, 0).sum(axis=1)
        with np.errstate(invalid="ignore"):
            return total / known.sum(axis=1)


def make_pairs(images: Images, measured: Measured, nearest: int) -> Pairs:
    """Pair each query with its nearest images and with its nearest strangers."""
    query: list[int] = []
    neighbor: list[int] = []
    for row, person in enumerate(images.people):
        ranking = images.ranking(row)
        if (images.people[ranking] == person).any():
            strangers = images.strangers[row, :CHOSEN].tolist()
            chosen = dict.fromkeys([*ranking[:nearest].tolist(), *strangers])
            query += [row] * len(chosen)
            neighbor += chosen
    rows, columns = np.array(query), np.array(neighbor)
    values = measured.values(rows, columns)
    level = (measured.levels(rows, columns) + measured.levels(columns, rows)) / 2
    features = {}
    for place, name in enumerate(FEATURES):
        features[name] = values[:, place]
        features[name + RELATIVE] = values[:, place] - level[:, place]
    features[NOISE] = np.random.default_rng(0).standard_normal(len(rows))
    people = images.people[rows]
    return Pairs(rows, columns, people != images.people[columns], people, features)


# --------------------------------------------------------------------------------------
# Comparison
# --------------------------------------------------------------------------------------


def check(title: str, images: Images, baseline: str) -> dict[str, Any]:
    """Compare the baseline alone with each feature added; print and return."""
    rows = {}
    measured = Measured(images)
    table = images.corrected if baseline == "CSLS" else images.nearness
    for design, nearest in DESIGNS.items():
        pairs = make_pairs(images, measured, nearest)
        print(
            f"\n{title}, {design}, {baseline}: {len(images.people)} images, "
            f"{len(pairs.false)} pairs, {int(pairs.false.sum())} of them false",
            flush=True,
        )
        similarity = table[pairs.query, pairs.neighbor]
        for name, columns in candidates(pairs):
            known = np.isfinite(columns).all(axis=1)
            chosen = pairs.false[known], pairs.people[known]
            if not known.any():
                continue
            row = compare(similarity[known], columns[known], *chosen)
            rows[f"{design}, {baseline} + {name}"] = row
            print(describe(name, row), flush=True)
    return rows


def candidates(pairs: Pairs) -> Iterator[tuple[str, Floats]]:
    """Yield each feature, noise, and all features but the background's at once."""
    for name, values in pairs.features.items():
        yield name, values[:, None]
    together = [*GROUPS["coherence"], *GROUPS["concentration"]]
    for end in ("", RELATIVE):
        columns = [pairs.features[name + end] for name in together]
        yield f"all but the background{end}", np.stack(columns, axis=1)


def compare(
    similarity: Floats, columns: Floats, false: NDArray[np.bool_], people: Integers
) -> dict[str, Any]:
    """Predict false matches without and with columns, for identities left out."""
    alone = similarity[:, None]
    both = np.concatenate([alone, columns], axis=1)
    _, place = np.unique(people, return_inverse=True)
    count = int(place.max()) + 1
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    times = np.concatenate([np.ones((1, count)), drawn])[:, place].astype(np.float32)
    without, added = (
        measure(predict(values, false, people), false, times)
        for values in (alone, both)
    )
    row: dict[str, Any] = {"pairs": len(false), "false": int(false.sum())}
    for name in FIGURES:
        change = added[name] - without[name]
        low, high = np.nanquantile(change[1:], (0.025, 0.975))
        values = without[name][0], added[name][0], change[0], low, high
        row[name] = [float(value) for value in values]
    return row


def predict(values: Floats, false: NDArray[np.bool_], people: Integers) -> Floats:
    """Return the log odds of a false match, from a fit to other identities."""
    scores = np.empty(len(false))
    for train, test in GroupKFold(FOLDS).split(values, false, people):
        center, spread = values[train].mean(axis=0), values[train].std(axis=0)
        scaled = (values - center) / np.maximum(spread, 1e-12)
        model = LogisticRegression(solver="newton-cholesky")
        model.fit(scaled[train], false[train])
        scores[test] = model.decision_function(scaled[test])
    return scores


def measure(
    scores: Floats, false: NDArray[np.bool_], times: NDArray[np.float32]
) -> dict[str, Floats]:
    """Compute average precision and AUC where pairs count several times, shape (R,).

    As scikit-learn's with ``sample_weight`` where no two scores are equal.
    """
    order = np.argsort(-scores, kind="stable")
    weights, wanted = times[:, order], false[order]
    hits = weights * wanted
    found, seen = np.cumsum(hits, axis=1), np.cumsum(weights, axis=1)
    total = found[:, -1].astype(np.float64)
    precision = found / np.maximum(seen, 1)
    above = np.einsum("rn,rn->r", weights * ~wanted, found, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "AP": np.einsum("rn,rn->r", hits, precision, dtype=np.float64) / total,
            "AUC": above / (total * (seen[:, -1] - total)),
        }


def describe(name: str, row: dict[str, Any]) -> str:
    """Describe a row in a line."""
    cells = []
    for figure in FIGURES:
        without, added, change, low, high = row[figure]
        cells.append(
            f"{figure} {without:.3f} {added:.3f}, {change:+.3f} ({low:+.3f} to "
            f"{high:+.3f}){'*' if low > 0 else ' '}"
        )
    return f"  {name:52}{cells[0]}  {cells[1]}"


if __name__ == "__main__":
    sys.exit(main())
