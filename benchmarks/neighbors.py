"""What finding neighbors costs: exactly, and with the indexes that FiftyOne has.

    python benchmarks/neighbors.py [--exact 10000 50000 200000] [--queries 2000]
        [--indexed 20000] [--asked 500] [--width 512]

Exact search: all vectors against all, time and peak memory, each size in a process of
its own. Above ``--queries`` queries only so many are run against the whole gallery, and
``seconds_all`` is computed from them: the work is the same for every query. Indexes:
LanceDB (exact scan, and IVF-PQ) and pgvector (HNSW, at two widths of its search), with
``--asked`` queries: time, and recall of the exact neighbors after the second look.
Prints JSON and writes it to ``benchmarks/out/neighbors.json``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isolated import isolated_database

if TYPE_CHECKING:
    from fiftyone_sfam.retrieval.search import Candidates

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "neighbors.json"
K = 10


def vectors_of(count: int, width: int, seed: int = 0) -> np.ndarray:
    """Unit vectors around centers, ten to each, as embeddings of identities are."""
    rng = np.random.default_rng(seed)
    centers = rng.standard_normal((max(1, count // 10), width), dtype=np.float32)
    found = np.empty((count, width), dtype=np.float32)
    for start in range(0, count, 10_000):
        part = np.arange(start, min(start + 10_000, count)) % len(centers)
        noise = rng.standard_normal((len(part), width), dtype=np.float32)
        found[start : start + len(part)] = centers[part] + 0.8 * noise
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def resident_mb(of: str) -> float:
    """Return the memory of this process now (VmRSS) or at most (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith(f"{of}:"))


def candidates_of(count: int, queries: int) -> Candidates:
    """Everything is in the gallery; some are queries, spread over it."""
    from fiftyone_sfam.retrieval.search import Candidates

    chosen = np.linspace(0, count - 1, min(queries, count)).astype(np.int64)
    identities = np.arange(count) % max(1, count // 10)
    return Candidates(
        identities.astype(np.int64),
        np.full(count, -1, dtype=np.int64),
        np.unique(chosen),
        np.arange(count),
        np.zeros(count, dtype=bool),
    )


def exact_child(count: int, queries: int, width: int) -> None:
    """Search exactly, and print what it took."""
    import torch

    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.retrieval.search import find_neighbors

    vectors = vectors_of(count, width)
    candidates = candidates_of(count, queries)
    protocol = Protocol(identity_field="identity")
    torch.zeros(1)
    # What making the vectors took at most is not the search's.
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_mb("VmRSS")
    start = time.perf_counter()
    find_neighbors(vectors, candidates, protocol, K)
    seconds = time.perf_counter() - start
    peak = resident_mb("VmHWM")
    done = len(candidates.queries)
    result = {
        "gallery": count,
        "width": width,
        "queries": done,
        "seconds": round(seconds, 2),
        "seconds_all": round(seconds * count / done, 1),
        "ms_per_query": round(1000 * seconds / done, 3),
        "embeddings_mb": round(vectors.nbytes / 2**20, 1),
        "grown_mb": round(peak - before, 1),
    }
    print("RESULT " + json.dumps(result))


def measure_exact(counts: list[int], queries: int, width: int) -> list[dict]:
    """Measure the exact search, each size in a process of its own."""
    rows = []
    for count in counts:
        command = [sys.executable, __file__, "--child", str(count)]
        command += ["--queries", str(queries), "--width", str(width)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        line = next(x for x in done.stdout.splitlines() if x.startswith("RESULT "))
        rows.append(json.loads(line.removeprefix("RESULT ")))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    return rows


def measure_indexes(
    count: int, queries: int, width: int, folder: Path, postgres: str | None
) -> list[dict]:
    """Measure the indexes against the exact search."""
    import fiftyone as fo
    import fiftyone.brain as fob

    from fiftyone_sfam.data.items import collect_items
    from fiftyone_sfam.data.protocol import Protocol
    from fiftyone_sfam.retrieval.indexed import IndexSearch, find_proposed_neighbors
    from fiftyone_sfam.retrieval.search import find_neighbors

    dataset = fo.Dataset("neighbors")
    dataset.add_samples([fo.Sample(filepath=f"/nowhere/{n}.png") for n in range(count)])
    vectors = vectors_of(count, width)
    candidates = candidates_of(count, queries)
    protocol = Protocol(identity_field="identity")
    items = collect_items(dataset, Protocol())
    start = time.perf_counter()
    exact = find_neighbors(vectors, candidates, protocol, K)
    rows = [
        {
            "index": "exact",
            "ms_per_query": round(
                1000 * (time.perf_counter() - start) / len(exact.query), 3
            ),
            "recall_at_10": 1.0,
        }
    ]
    backends = fob.brain_config.similarity_backends
    backends["lancedb"]["uri"] = str(folder / "lance")
    if postgres is not None:
        backends["pgvector"]["connection_string"] = postgres

    def build(key: str, backend: str, **options: Any) -> tuple[Any, float]:
        start = time.perf_counter()
        index = fob.compute_similarity(
            dataset,
            embeddings=vectors,
            brain_key=key,
            backend=backend,
            metric="cosine",
            **options,
        )
        return index, time.perf_counter() - start

    def measure(name: str, key: str, built: float) -> None:
        search = IndexSearch(dataset, items, key, "cosine", None)
        start = time.perf_counter()
        found = find_proposed_neighbors(vectors, candidates, protocol, K, search)
        seconds = time.perf_counter() - start
        hits = [
            len(np.intersect1d(one[one >= 0], other))
            for one, other in zip(found.index, exact.index, strict=True)
        ]
        rows.append(
            {
                "index": name,
                "build_s": round(built, 1),
                "ms_per_query": round(1000 * seconds / len(found.query), 3),
                "recall_at_10": round(float(np.sum(hits)) / exact.index.size, 4),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)

    lance, built = build("lance", "lancedb")
    measure("LanceDB, no index", "lance", built)
    start = time.perf_counter()
    lance.table.create_index(
        metric="cosine",
        num_partitions=max(1, int(count**0.5)),
        num_sub_vectors=width // 8,
        index_type="IVF_PQ",
    )
    measure("LanceDB, IVF-PQ", "lance", built + time.perf_counter() - start)
    if postgres is not None:
        for ef in (None, 200):
            key = f"pg_{ef or 'default'}"
            _, built = build(key, "pgvector", hnsw_ef_search=ef)
            name = f"pgvector, HNSW, ef_search {ef or '52 (twice what is asked for)'}"
            measure(name, key, built)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--exact", type=int, nargs="*", default=[10_000, 50_000, 200_000]
    )
    parser.add_argument("--indexed", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--asked", type=int, default=500)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        exact_child(args.child, args.queries, args.width)
        return
    found = {"exact": measure_exact(args.exact, args.queries, args.width)}
    if args.indexed:
        sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "scripts")]
        from services import start_postgres, stop_postgres

        with isolated_database("sfam_neighbors") as folder:
            process, uri = start_postgres(folder / "postgres")
            try:
                found["indexed_vectors"] = args.indexed
                found["indexes"] = measure_indexes(
                    args.indexed, args.asked, args.width, folder, uri
                )
            finally:
                stop_postgres(process)
    text = json.dumps(found, indent=2)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
