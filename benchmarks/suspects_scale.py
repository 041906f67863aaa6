"""Time and memory of suspects and evaluation for up to a million embeddings.

    python benchmarks/suspects_scale.py [--images 10000 100000] [--width 128]
        [--exact 100000] [--rows 5000] [--queries 1000]

The collections are synthetic: ten images per identity on average, with a long tail,
eight cameras, some identities that look alike, and one label in a hundred wrong. Each
size runs in two processes of its own, for suspects and for evaluation, without FiftyOne
and pixels: what is measured is everything that :func:`find_suspects` does with
embeddings.

Above ``--exact`` images, the exact search for neighbors is measured on ``--rows``
images against all, and ``seconds`` is computed from them; all that follows then uses
the neighbors among the proposals of cells (k-means, made here; the images of the
nearest cells are compared exactly), and the recall of the proposals is measured on the
same rows. Above 20,000 images, the evaluation is measured on ``--queries`` queries
against all, and its seconds and the memory that grows with the queries (``more_mb``)
are computed from them. ``computed`` marks such figures.

Processor seconds are of one thread. Prints JSON and writes it to
``benchmarks/out/suspects_scale.json``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "suspects_scale.json"
CAMERAS = 8
# Images of a cell, and of the nearest cells that are compared.
CELL, VISITED = 250, 2000
# Images up to which the evaluation is run in full.
EVALUATED = 20_000
# Images from which the centers of the cells are learned.
LEARNED = 50_000

Result = TypeVar("Result")


def peak_mb() -> float:
    """Return the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


class Watch:
    """Times steps, and notes the peak of memory after each."""

    def __init__(self) -> None:
        self.steps: dict[str, dict[str, Any]] = {}

    def __call__(self, name: str, step: Callable[[], Result]) -> Result:
        """Run a step."""
        wall, processor = time.perf_counter(), time.process_time()
        result = step()
        self.steps[name] = {
            "processor_s": round(time.process_time() - processor, 1),
            "wall_s": round(time.perf_counter() - wall, 1),
            "peak_mb": round(peak_mb()),
        }
        print(name, self.steps[name], file=sys.stderr, flush=True)
        return result

    def compute(self, name: str, factor: float, **more: Any) -> None:
        """Multiply the seconds of a step that did only a part of the work."""
        step = self.steps[name]
        measured = step["processor_s"]
        for seconds in ("processor_s", "wall_s"):
            step[seconds] = round(step[seconds] * factor, 1)
        step |= {"computed": True, "measured_s": measured, **more}


def collection(
    count: int, width: int, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Make embeddings, identities and cameras."""
    rng = np.random.default_rng(seed)
    people = max(2, count // 10)
    weight = rng.lognormal(0, 1, size=people)
    weight = 0.1 / people + 0.9 * weight / weight.sum()
    who = rng.choice(people, size=count, p=weight)
    _, who = np.unique(who, return_inverse=True)
    people = int(who.max()) + 1
    # People look alike in groups of twenty.
    looks = rng.standard_normal((people // 20 + 1, width), dtype=np.float32)
    centers = rng.standard_normal((people, width), dtype=np.float32)
    centers += 0.7 * looks[rng.integers(0, len(looks), size=people)]
    cameras = rng.integers(0, CAMERAS, size=count)
    views = 0.3 * rng.standard_normal((CAMERAS, width), dtype=np.float32)
    vectors = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 50_000):
        part = slice(start, start + 50_000)
        noise = rng.standard_normal((len(who[part]), width), dtype=np.float32)
        vectors[part] = centers[who[part]] + views[cameras[part]] + 0.8 * noise
    labels = who.copy()
    wrong = rng.random(count) < 0.01
    labels[wrong] = rng.integers(0, people, size=int(wrong.sum()))
    _, labels = np.unique(labels, return_inverse=True)
    return vectors, labels.astype(np.int64), cameras.astype(np.int64)


class Cells:
    """Proposes the nearest images among those of the nearest cells."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        from sklearn.cluster import MiniBatchKMeans

        rng = np.random.default_rng(0)
        some = rng.choice(len(vectors), min(LEARNED, len(vectors)), replace=False)
        means = MiniBatchKMeans(
            max(1, len(vectors) // CELL),
            batch_size=4096,
            max_iter=3,
            n_init=1,
            init="random",
            reassignment_ratio=0.0,
            random_state=0,
        ).fit(vectors[some])
        self._centers = means.cluster_centers_
        self._half = np.square(self._centers).sum(axis=1) / 2
        cell = np.concatenate(
            [
                np.argmax(self._to_centers(vectors[start : start + 2000]), axis=1)
                for start in range(0, len(vectors), 2000)
            ]
        )
        # The images of a cell are side by side.
        self._images = np.argsort(cell, kind="stable")
        self._vectors = vectors[self._images]
        self._sizes = np.bincount(cell, minlength=len(self._centers))
        self._starts = np.cumsum(self._sizes) - self._sizes
        self.size = len(vectors)

    def _to_centers(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return vectors @ self._centers.T - self._half

    def __call__(
        self, vectors: NDArray[np.float32], count: int
    ) -> list[NDArray[np.int64]]:
        """Return the images near each vector."""
        near = self._to_centers(vectors)
        visited = min(near.shape[1], 4 * VISITED // CELL)
        some = np.argpartition(-near, visited - 1, axis=1)[:, :visited]
        order = np.argsort(-np.take_along_axis(near, some, axis=1), axis=1)
        cells = np.take_along_axis(some, order, axis=1)
        proposed = []
        for vector, row in zip(vectors, cells, strict=True):
            total = np.cumsum(self._sizes[row])
            last = int(np.searchsorted(total, max(VISITED, 4 * count)))
            parts = [
                slice(start, start + size)
                for start, size in zip(
                    self._starts[row[: last + 1]].tolist(),
                    self._sizes[row[: last + 1]].tolist(),
                    strict=True,
                )
            ]
            found = np.concatenate([self._vectors[part] @ vector for part in parts])
            images = np.concatenate([self._images[part] for part in parts])
            kept = min(count, len(images))
            proposed.append(images[np.argpartition(-found, kept - 1)[:kept]])
        return proposed


def suspects(count: int, width: int, exact: int, rows: int) -> dict[str, Any]:
    """Measure the steps of the search for suspects."""
    from fiftyone_sfam.audit.suspects import measures, nearest, space

    vectors, identities, cameras = collection(count, width)
    watch, before = Watch(), peak_mb()
    points = watch(
        "space", partial(space.make_space, vectors, "cosine", identities, cameras)
    )
    del vectors
    figures: dict[str, Any] = {
        "images": count,
        "identities": len(points.members),
        "largest_identity": max(map(len, points.members)),
        "width": width,
        "camera_gain": round(points.camera_gain, 4),
        "before_mb": round(before),
    }
    if count <= exact:
        near = watch("exact neighbors", lambda: nearest.find_nearest(points))
    else:
        chosen = np.arange(0, count, max(1, count // rows))
        part = watch("exact neighbors", lambda: some_nearest(points, chosen))
        watch.compute("exact neighbors", count / len(chosen), rows=len(chosen))
        cells = watch("cells", lambda: Cells(points.vectors))
        near = watch(
            "proposed neighbors",
            lambda: nearest.find_nearest(points, propose=cells),
        )
        figures["recall_of_proposals"] = {
            str(most): recall(near.others[chosen, :most], part[:, :most])
            for most in (1, 10, nearest.OTHERS)
        }
    found = watch("scores", partial(measures.measure_near, points, near))
    figures["pairs_of_identities"] = len(found.figures.pairs.codes)
    odds = watch(
        "odds", lambda: [found.mislabeled(), found.one_person(), found.two_persons()]
    )
    figures["likely"] = [int((one >= 0).sum()) for one in odds]
    return {**figures, "peak_mb": round(peak_mb()), "steps": watch.steps}


def recall(found: NDArray[np.int32], exact: NDArray[np.int32]) -> float:
    """Return the share of the exact neighbors that were found."""
    hits = [
        len(np.intersect1d(one, other)) for one, other in zip(found, exact, strict=True)
    ]
    return round(float(np.sum(hits)) / exact.size, 4)


def some_nearest(points: Any, chosen: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the nearest others of some images."""
    from fiftyone_sfam.audit.suspects import nearest

    found = nearest.Nearest(
        np.full((len(points), nearest.OTHERS), -1, dtype=np.int32),
        np.full((len(points), nearest.OTHERS), -np.inf, dtype=np.float32),
        np.full((len(points), nearest.CLOSEST), -1, dtype=np.int32),
    )
    nearest._compare_all(points, found, None, chosen)
    return found.others[chosen]


def evaluation(count: int, width: int, queries: int) -> dict[str, Any]:
    """Measure the two passes of the evaluation."""
    from fiftyone_sfam.audit.evaluation.blocks import compare
    from fiftyone_sfam.audit.evaluation.measures import measure
    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.retrieval.rules import compile_rules
    from fiftyone_sfam.retrieval.search import Candidates

    vectors, identities, cameras = collection(count, width)
    watch, before = Watch(), peak_mb()
    protocol = Protocol(identity_field="identity", camera_field="camera")
    candidates = Candidates(
        identities,
        cameras,
        np.arange(count),
        np.arange(count),
        np.zeros(count, dtype=bool),
        compile_rules(protocol, identities, cameras, {}),
    )
    comparisons = compare(vectors, candidates, protocol)
    figures: dict[str, Any] = {"images": count, "before_mb": round(before)}
    if count > EVALUATED:
        chosen = np.arange(0, count, count // queries)
        comparisons = replace(
            comparisons, candidates=replace(candidates, queries=chosen)
        )
    asked = len(comparisons.candidates.queries)
    watch("evaluation", lambda: measure(comparisons))
    if asked < count:
        # Of each query, the table of scores keeps 2 kB and the rankings some numbers.
        more = round(2048 * (count - asked) / 2**20)
        watch.compute("evaluation", count / asked, queries=asked, more_mb=more)
    return {**figures, "peak_mb": round(peak_mb()), "steps": watch.steps}


def child(*args: str) -> dict[str, Any]:
    """Run this script in a process of its own; return its figures."""
    command = [sys.executable, __file__, *args]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(args)} failed.")
    line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
    return json.loads(line.removeprefix("RESULT "))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--exact", type=int, default=100_000)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--only", choices=("suspects", "evaluation"))
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", choices=("suspects", "evaluation"))
    args = parser.parse_args()
    if args.child:
        [count] = args.images
        result = (
            suspects(count, args.width, args.exact, args.rows)
            if args.child == "suspects"
            else evaluation(count, args.width, args.queries)
        )
        print("RESULT " + json.dumps(result))
        return
    options = [
        f"--{name}={getattr(args, name)}"
        for name in ("width", "exact", "rows", "queries")
    ]
    parts = ("suspects", "evaluation") if args.only is None else (args.only,)
    rows: dict[str, list[dict[str, Any]]] = {part: [] for part in parts}
    args.out.parent.mkdir(exist_ok=True)
    for count in args.images:
        for part in parts:
            rows[part].append(child("--child", part, "--images", str(count), *options))
            args.out.write_text(json.dumps(rows, indent=2) + "\n")
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
