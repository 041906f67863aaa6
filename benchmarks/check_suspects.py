"""Plant defects in real images, and compare rankings of suspects that find them.

Six collections of the private assets (faces with four networks, persons, lions), ten
long-tailed worlds of each with defects planted by suspects_planted.py, ranked by the
methods of suspects_rivals.py and by find_suspects: average precision per kind (by
scikit-learn), and hub concentration, the number of the first 50 links between images of
different identities in which one and the same image takes part. Then 5 % of the labels
of the whole collection are replaced at random, ten times. Last, the probabilities of
find_suspects on a collection that was left out of their fit, and the calibration curve
over all of these. Writes ``benchmarks/out/suspects.json``, figures only, no names, and
draws the curves into ``benchmarks/out/suspects-calibration.html``.

Usage: ``python benchmarks/check_suspects.py [--assets DIR] [--only TEXT] [--first]
[--sheets DIR]``. With ``--first`` the first findings of find_suspects are printed as
well, with the names of their files; with ``--sheets`` their images are drawn into a
folder, which must not be in the checkout, as the images are private.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score
from suspects_calibrated import (
    CALIBRATED,
    Bin,
    Units,
    curve,
    draw_curves,
    fit,
    left_out,
    no_defects,
    units_of,
)
from suspects_calibrated import judge as judge_probabilities
from suspects_demo import demo_units
from suspects_methods import rank_ours
from suspects_planted import KINDS, MERGED, MISLABELED, SPLIT, World, plant
from suspects_pool import COLLECTIONS, FORMS, Collection, Pool, list_people, make_pool
from suspects_rivals import Images, Ranking, rank_by_all

from fiftyone_sfam.audit.suspects.measures import measure

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "suspects.json"
CURVES = OUT.with_name("suspects-calibration.html")
SEEDS = range(10)
CORRUPTED = 0.05
FIRST = 50

OURS = "find_suspects"

Table = dict[str, dict[str, float]]  # by method, then by kind


def main() -> int:
    """Check all collections; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", default="", help="part of a collection's name")
    parser.add_argument("--first", action="store_true", help="print first findings")
    parser.add_argument("--sheets", type=Path, help="folder outside the checkout")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    sheets = arguments.sheets and arguments.sheets.resolve()
    if sheets and sheets.is_relative_to(ROOT):
        print(f"{sheets} is in the checkout; give another folder", file=sys.stderr)
        return 2
    report: dict[str, Any] = {}
    units: dict[str, dict[str, list[Units]]] = {kind: {} for kind in CALIBRATED}
    as_they_are: list[dict[str, Units]] = []
    for collection in COLLECTIONS:
        if arguments.only in collection.name:
            start = time.perf_counter()
            pool, worlds = make_worlds(collection, arguments.assets)
            made = time.perf_counter() - start
            report[collection.name] = check_pool(pool, worlds, units) | {
                "pool_seconds": made
            }
            as_they_are.append(measure_pool(pool))
            print(f"  images in {made:.0f} s", flush=True)
    if len(report) > 1:
        report["calibration"] = check_calibration(units, as_they_are)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.first or sheets:
        from suspects_first import print_first

        print_first(arguments.assets, arguments.only, sheets)
    return 0


def make_worlds(collection: Collection, assets: Path) -> tuple[Pool, list[World]]:
    """Plant defects, and embed the images that the worlds consist of."""
    people, cameras = list_people(collection, assets)
    worlds = [plant(people, cameras, seed) for seed in SEEDS]
    rows = {row for world in worlds for row in world.rows.tolist()}
    return make_pool(collection, assets, rows), worlds


def check_pool(
    pool: Pool, worlds: list[World], units: dict[str, dict[str, list[Units]]]
) -> dict[str, Any]:
    """Rank the worlds of a collection; print and return a table, and keep the units."""
    start = time.perf_counter()
    tables, corrupted, seconds = [], [], []
    for seed, world in zip(SEEDS, worlds, strict=True):
        images = images_of(pool, world)
        begun = time.perf_counter()
        ours, measured = rank_ours(images)
        seconds.append(time.perf_counter() - begun)
        tables.append(judge({**rank_by_all(images), OURS: ours}, world, images))
        for kind, found in units_of(measured, world.truth).items():
            units[kind].setdefault(pool.name, []).append(found)
        corrupted.append(find_corrupted(pool, seed))
    table, random = mean_tables(tables), mean_tables(corrupted)
    for method in table:
        table[method].update(random.get(method, {}))
    print(f"\n{pool.name}: {len(pool.people)} images, {len(SEEDS)} worlds")
    print_table(table)
    print(f"  worlds in {time.perf_counter() - start:.0f} s", flush=True)
    return {"table": table, "worlds": tables, "seconds_per_world": np.mean(seconds)}


def measure_pool(pool: Pool) -> dict[str, Units]:
    """Measure a collection as it is, and count what is above the threshold in it."""
    rows = np.arange(len(pool.people)) * len(FORMS)
    measured = measure(pool.embeddings[rows], pool.metric, pool.people, pool.cameras)
    found = {
        MISLABELED: measured.mislabeled(),
        SPLIT: measured.one_person(),
        MERGED: measured.two_persons(),
    }
    counts = ", ".join(
        f"{int((odds >= 0).sum())} {kind}" for kind, odds in found.items()
    )
    print(f"  as it is, above the threshold: {counts}")
    return units_of(measured, no_defects(measured))


def check_calibration(
    units: dict[str, dict[str, list[Units]]], as_they_are: list[dict[str, Units]]
) -> dict[str, Any]:
    """Fit probabilities on all collections but one; print and return their errors."""
    demo, clean = demo_units()
    result: dict[str, Any] = {}
    curves: dict[str, list[Bin]] = {}
    for kind in CALIBRATED:
        print(f"\n{kind}: probabilities on a collection that was left out of the fit")
        always = [one[kind] for one in clean]
        if kind == MERGED:
            always += [one[kind] for one in as_they_are]
        worlds = {**units[kind], "demo": [one[kind] for one in demo]}
        tested = left_out(worlds, always)
        found = {name: judge_probabilities(each) for name, each in tested.items()}
        for name, row in found.items():
            print(
                f"  {name:22}error {row['error']:.3f}; expected {row['expected']:.0f}, "
                f"found {row['found']:.0f} of {row['planted']:.0f}; "
                f"{above(row, 'sure', 0.9)}; {above(row, 'likely', 0.5)}"
            )
        curves[kind] = curve([*tested.values()])
        print("  probability, share right with 95 % interval, units")
        for each in curves[kind]:
            print(
                f"  {each.predicted:11.2f}  {each.right:.2f} "
                f"({each.low:.2f} to {each.high:.2f})  {each.units}"
            )
        model = fit([one for each in worlds.values() for one in each] + always)
        slopes = ", ".join(f"{slope:.2f}" for slope in model.slopes)
        print(f"  on all: Model({model.intercept:.2f}, ({slopes}), {model.share:.4f})")
        bins = [asdict(each) for each in curves[kind]]
        result[kind] = {"left out": found, "curve": bins, "model": asdict(model)}
    CURVES.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(curves, CURVES)
    return result


def above(row: dict[str, float], name: str, threshold: float) -> str:
    """Say how many units above a threshold are right, of how many planted ones."""
    chosen, right = row[f"{name} chosen"], row[f"{name} right"]
    share = f" ({right / chosen:.2f})" if chosen else ""
    return (
        f"above {threshold} {right:.0f} of {chosen:.0f} right{share}, "
        f"recall {right / row['planted']:.2f}"
    )


def images_of(pool: Pool, world: World) -> Images:
    """Select the images of a world."""
    return Images(
        pool.embeddings[world.rows],
        pool.metric,
        world.identities,
        world.cameras,
        pool.small[world.rows],
    )


def judge(rankings: dict[str, Ranking], world: World, images: Images) -> Table:
    """Compute the average precision per kind, and the concentration of hubs."""
    table: Table = {}
    for method, ranking in rankings.items():
        row = {
            kind: average_precision(world.truth[kind], ranking.scores[kind])
            for kind in KINDS
            if kind in ranking.scores
        }
        if ranking.links is not None:
            row["hubs"] = float(concentration(ranking.links, images))
        table[method] = row
    return table


def average_precision(truth: NDArray[np.int8], scores: NDArray[np.float64]) -> float:
    """Return the average precision of the units that count; NaN without a defect."""
    if truth.ndim == 2:
        upper = np.triu_indices(len(truth), 1)
        truth, scores = truth[upper], scores[upper]
    counted = truth >= 0
    if not (truth == 1).any():
        return float("nan")
    finite = np.where(np.isfinite(scores), scores, np.nan)
    least = np.nanmin(finite) - 1 if np.isfinite(finite).any() else 0.0
    finite = np.where(np.isnan(finite), least, finite)
    return float(average_precision_score(truth[counted] == 1, finite[counted]))


def concentration(links: NDArray[np.float64], images: Images) -> int:
    """Count how often one image takes part in the first links of identities."""
    order = np.argsort(-links, axis=None, kind="stable")
    seen: set[tuple[int, int]] = set()
    parts: Counter[int] = Counter()
    for first, second in zip(*np.unravel_index(order, links.shape), strict=True):
        pair = sorted((images.identities[first], images.identities[second]))
        key = (int(pair[0]), int(pair[1]))
        if key in seen or not np.isfinite(links[first, second]):
            continue
        seen.add(key)
        parts.update((int(first), int(second)))
        if len(seen) == FIRST:
            break
    return max(parts.values(), default=0)


def find_corrupted(pool: Pool, seed: int) -> Table:
    """Replace 5 % of all labels at random; average precision of finding them."""
    generator = np.random.default_rng(seed)
    labels = pool.people.copy()
    names = np.unique(labels)
    count = round(CORRUPTED * len(labels))
    corrupted = np.zeros(len(labels), dtype=np.int8)
    corrupted[generator.choice(len(labels), count, replace=False)] = 1
    for image in np.flatnonzero(corrupted):
        labels[image] = generator.choice(names[names != labels[image]])
    codes = np.unique(labels, return_inverse=True)[1]
    rows = np.arange(len(labels)) * len(FORMS)
    images = Images(pool.embeddings[rows], pool.metric, codes, pool.cameras, None)
    table: Table = {}
    rankings = {**rank_by_all(images), OURS: rank_ours(images)[0]}
    for method, ranking in rankings.items():
        if MISLABELED not in ranking.scores:
            continue
        row = {"random 5 %": average_precision(corrupted, ranking.scores[MISLABELED])}
        if ranking.flagged is not None:
            right = float((ranking.flagged & (corrupted == 1)).sum())
            row["precision"] = right / max(int(ranking.flagged.sum()), 1)
            row["recall"] = right / count
        table[method] = row
    return table


def mean_tables(tables: list[Table]) -> Table:
    """Average tables, without what is NaN."""
    methods = dict.fromkeys(method for table in tables for method in table)
    result: Table = {}
    for method in methods:
        kinds = dict.fromkeys(
            kind for table in tables for kind in table.get(method, {})
        )
        result[method] = {
            kind: float(
                np.nanmean([table[method].get(kind, np.nan) for table in tables])
            )
            for kind in kinds
        }
    return result


def print_table(table: Table) -> None:
    """Print a table with a line per method."""
    columns = (*KINDS, "hubs", "random 5 %")
    print(f"  {'':24}" + "".join(f"{column.split()[0]:>12}" for column in columns))
    for method, row in table.items():
        cells = "".join(
            f"{row[column]:12.3f}" if column in row else f"{'-':>12}"
            for column in columns
        )
        print(f"  {method:24}{cells}")
    for method, row in table.items():
        if "recall" in row:
            print(
                f"  {method}, above its threshold with 5 % corrupted: precision "
                f"{row['precision']:.3f}, recall {row['recall']:.3f}"
            )


if __name__ == "__main__":
    sys.exit(main())
