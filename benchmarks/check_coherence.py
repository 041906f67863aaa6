"""Measure whether the way places match tells false matches from true ones.

Runs the networks of the private assets over their images, takes the nearest images of
each query and its nearest strangers, and measures the features of
coherence_features.py for each of these pairs. A logistic regression, cross-validated by
the identity of the query, tells false from true matches by the similarity alone, or
corrected for hubs (CSLS), and with one feature added. Prints the average precision and
the area under the ROC curve without and with each feature, and the difference with its
95 % interval, for which the identities of queries are drawn again. Writes
``benchmarks/out/coherence.json``: figures only, no names.

Usage: ``python benchmarks/check_coherence.py [--assets DIR] [--only TEXT]
[--images N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from check_real import CASES, load_case
from coherence_features import GROUPS, PlacedImage, measure_pair, unit_vectors
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from suspects_pool import _list_images

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "coherence.json"
CHOSEN = 3  # images of each kind that a query is paired with
STRANGERS = 10  # from which the level of an image is measured
FOLDS = 10
RESAMPLES = 1000
BATCH = 32
NOISE = "a random number"
DESIGNS = ("nearest", "hard")
ALL = "all of them"


@dataclass(frozen=True)
class Network:
    """A network of check_real.py, at a layer."""

    title: str
    layer: str | None = None

    @property
    def name(self) -> str:
        """Name in the table."""
        return f"{self.title} {self.layer}" if self.layer else self.title


NETWORKS = (
    Network("osnet"),
    Network("mobilefacenet"),
    Network("hse_faceres"),
    Network("dlib", "conv128_2"),
    Network("edgeface", "stages.2"),
    Network("class_token_vit", "direct"),
)


@dataclass(frozen=True)
class Images:
    """N images of a collection, and how near they are to one another."""

    images: list[PlacedImage]
    people: NDArray[np.int64]  # (N,)
    cameras: NDArray[np.int64]  # (N,), -1 if unknown
    scales: NDArray[np.float64]  # normalizers of the pairs, (N, N)
    nearness: NDArray[np.float64]  # cosine, or minus the distance, (N, N)


@dataclass(frozen=True)
class Pairs:
    """M pairs of a query and a neighbor."""

    query: NDArray[np.int64]
    neighbor: NDArray[np.int64]
    false: NDArray[np.bool_]
    group: NDArray[np.int64]  # identity of the query
    features: dict[str, NDArray[np.float64]]


def main() -> int:
    """Check all networks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="part of a network's name")
    parser.add_argument("--images", type=int, help="first images of the collection")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    report = {}
    for network in NETWORKS:
        if arguments.only in network.name:
            start = time.perf_counter()
            images = read_images(network, arguments.assets, arguments.images)
            report[network.name] = check(network, images)
            print(f"  in {time.perf_counter() - start:.0f} s", flush=True)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    return 0


# --------------------------------------------------------------------------------------
# Images and pairs
# --------------------------------------------------------------------------------------


def read_images(network: Network, assets: Path, limit: int | None) -> Images:
    """Compute the contributions of all images of a network's collection."""
    import torch

    from fiftyone_sfam.data.images import read_image
    from fiftyone_sfam.network.metric import distance, normalizer
    from fiftyone_sfam.retrieval.search import encode

    case = next(
        case
        for case in CASES
        if case.title == network.title and case.layer in (None, network.layer)
    )
    model, folder = load_case(case, assets)
    if network.layer is not None:
        model = model.with_layer(network.layer)
    paths, people, cameras = (column[:limit] for column in _list_images(folder))
    images, embeddings = [], []
    for start in range(0, len(paths), BATCH):
        chosen = paths[start : start + BATCH]
        batch = torch.stack([model.prepare(read_image(str(path))) for path in chosen])
        head = model.linearize(batch)
        values = head.position_contributions().numpy()
        embeddings.append(head.embedding)
        height, width = head.feature_map.shape[2:]
        maps = head.feature_map.flatten(2).transpose(1, 2).numpy()
        for row, path in enumerate(chosen):
            images.append(
                PlacedImage(
                    values[row],
                    unit_vectors(maps[row]),
                    head.embedding[row].numpy(),
                    centers(height, width),
                    background_of(path, folder, height, width, network),
                )
            )
    joined = torch.cat(embeddings).double()
    apart = distance(joined[:, None], joined, model.metric).numpy()
    scales = normalizer(joined[:, None], joined, model.metric).numpy()
    return Images(images, encode(people), encode(cameras), scales, -apart)


def centers(height: int, width: int) -> NDArray[np.float64]:
    """Return the centers of a map's places, x and y in [0, 1], row by row."""
    y, x = np.mgrid[:height, :width]
    return np.stack([(x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height], axis=1)


def background_of(
    path: Path, folder: Path, height: int, width: int, network: Network
) -> NDArray[np.float64] | None:
    """Return the share of the background at each place; None without a mask."""
    from fiftyone_sfam.audit.regions.partitions import resample

    masks = folder.with_name(f"{folder.name}_masks")
    file = (masks / path.relative_to(folder)).with_suffix(".png")
    if not file.is_file():
        return None
    person = np.asarray(Image.open(file).convert("L"))[None] > 127
    box = (0.0, 0.0, 1.0, 1.0)
    if network.title == "edgeface":  # 8 black columns on either side of 96
        box = (-8 / 96, 0.0, 104 / 96, 1.0)
    return 1 - resample(person, height, width, box)[0].ravel()


def make_pairs(images: Images, design: str) -> Pairs:
    """Pair each query with its nearest strangers and with some of its true matches.

    With the design "nearest", the nearest images of any kind and the nearest strangers,
    as findings have them. With "hard", the farthest true matches and the nearest
    strangers, where the similarity decides least. Images of the query's camera are left
    out: a person's images on one camera are alike for another reason, and a stranger's
    would give away that they are false.
    """
    query, neighbor = [], []
    for row, person in enumerate(images.people):
        order = np.argsort(-images.nearness[row], kind="stable")
        camera = images.cameras[row]
        valid = order[
            (order != row) & ((camera < 0) | (images.cameras[order] != camera))
        ]
        own = images.people[valid] == person
        if not own.any():
            continue
        matches = valid[own][-CHOSEN:] if design == "hard" else valid[:CHOSEN]
        chosen = dict.fromkeys([*matches, *valid[~own][:CHOSEN]])
        query += [row] * len(chosen)
        neighbor += [int(other) for other in chosen]
    rows, columns = np.array(query), np.array(neighbor)
    found = [
        measure_pair(
            images.images[one], images.images[other], images.scales[one, other]
        )
        for one, other in zip(query, neighbor, strict=True)
    ]
    features = {
        name: np.array([values[name] for values in found])
        for names in GROUPS.values()
        for name in names
    }
    features[NOISE] = np.random.default_rng(0).standard_normal(len(rows))
    return Pairs(
        rows,
        columns,
        images.people[rows] != images.people[columns],
        images.people[rows],
        features,
    )


def corrected(images: Images) -> NDArray[np.float64]:
    """Correct nearness for images that are near to many strangers (CSLS)."""
    strangers = np.where(
        images.people[:, None] != images.people, images.nearness, -np.inf
    )
    levels = -np.sort(-strangers, axis=1)[:, :STRANGERS].mean(axis=1)
    return images.nearness - (levels[:, None] + levels) / 2


# --------------------------------------------------------------------------------------
# Comparison
# --------------------------------------------------------------------------------------


def check(network: Network, images: Images) -> dict[str, Any]:
    """Compare the similarity alone with each feature added; print and return."""
    rows = {}
    for design in DESIGNS:
        pairs = make_pairs(images, design)
        places = (pairs.query, pairs.neighbor)
        baselines = {
            "similarity": images.nearness[places],
            "CSLS": corrected(images)[places],
        }
        print(
            f"\n{network.name}, {design}: {len(images.people)} images, "
            f"{len(pairs.false)} pairs, {int(pairs.false.sum())} of them false",
            flush=True,
        )
        for baseline, similarity in baselines.items():
            for name, columns in candidates(pairs):
                known = np.isfinite(columns).all(axis=1)
                if not known.any():
                    continue
                row = compare(
                    similarity[known],
                    columns[known],
                    pairs.false[known],
                    pairs.group[known],
                )
                title = f"{baseline} + {name}"
                rows[f"{design}, {title}"] = row
                print(f"  {describe(title, row)}", flush=True)
    return rows


def candidates(pairs: Pairs) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Yield each feature, noise, and all features but the background's at once."""
    for name, values in pairs.features.items():
        yield name, values[:, None]
    together = [*GROUPS["coherence"], *GROUPS["concentration"]]
    yield ALL, np.stack([pairs.features[name] for name in together], axis=1)


def compare(
    similarity: NDArray[np.float64],
    columns: NDArray[np.float64],
    false: NDArray[np.bool_],
    groups: NDArray[np.int64],
) -> dict[str, Any]:
    """Predict false matches without and with columns, on identities left out."""
    alone = similarity[:, None]
    predictions = [
        predict(values, false, groups)
        for values in (alone, np.concatenate([alone, columns], axis=1))
    ]
    _, place = np.unique(groups, return_inverse=True)
    count = place.max() + 1
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(count, np.full(count, 1 / count), RESAMPLES)
    times = np.concatenate([np.ones((1, count)), drawn])[:, place]
    without, with_it = (figures(scores, false, times) for scores in predictions)
    row: dict[str, Any] = {"pairs": len(false), "false": int(false.sum())}
    for name in ("AP", "AUC"):
        change = with_it[name] - without[name]
        low, high = np.nanquantile(change[1:], (0.025, 0.975))
        row[name] = [
            float(value)
            for value in (without[name][0], with_it[name][0], change[0], low, high)
        ]
    return row


def predict(
    values: NDArray[np.float64], false: NDArray[np.bool_], groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the log odds of a false match, from a fit to other identities."""
    scores = np.empty(len(false))
    folds = GroupKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(values, false, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression())
        scores[test] = model.fit(values[train], false[train]).decision_function(
            values[test]
        )
    return scores


def figures(
    scores: NDArray[np.float64], false: NDArray[np.bool_], times: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Compute average precision and AUC where pairs count several times, shape (R,).

    As scikit-learn's with ``sample_weight`` where no two scores are equal.
    """
    order = np.argsort(-scores, kind="stable")
    weights, wanted = times[:, order], false[order]
    hits = weights * wanted
    found, seen = np.cumsum(hits, axis=1), np.cumsum(weights, axis=1)
    total = found[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(seen > 0, found / seen, 0)
        ranked = ((weights * ~wanted) * found).sum(axis=1)
        return {
            "AP": (hits * precision).sum(axis=1) / total,
            "AUC": ranked / (total * (seen[:, -1] - total)),
        }


def describe(name: str, row: dict[str, Any]) -> str:
    """Describe a row in a line."""
    cells = [
        f"{figure} {row[figure][0]:.3f} {row[figure][1]:.3f} {row[figure][2]:+.3f} "
        f"({row[figure][3]:+.3f} to {row[figure][4]:+.3f})"
        for figure in ("AP", "AUC")
    ]
    return f"{name:56}{cells[0]:42}{cells[1]}"


if __name__ == "__main__":
    sys.exit(main())
