"""What a run of a million pairs takes to store, to open and to read.

    python benchmarks/storage.py [--images 100000] [--k 10] [--map 16 8]

The run is synthetic and written with the real writer: random neighbors, and maps of
noise, which no compression makes smaller, so bytes per pair are an upper bound.
Prints JSON and writes it to ``benchmarks/out/storage.json``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isolated import isolated_database

if TYPE_CHECKING:
    from fiftyone_sfam.retrieval.pairs import Pairs

OUT = Path(__file__).resolve().parent / "out" / "storage.json"
SHARD_IMAGES = 32


def synthetic_pairs(images: int, k: int, rng: np.random.Generator) -> Pairs:
    """Pair every image with k random others."""
    from fiftyone_sfam.retrieval.pairs import Pairs

    query = np.repeat(np.arange(images, dtype=np.int32), k)
    step = rng.integers(1, images, size=len(query))
    similarity = np.sort(rng.random((images, k)), axis=1)[:, ::-1].reshape(-1)
    return Pairs(
        query,
        ((query + step) % images).astype(np.int32),
        np.tile(np.arange(1, k + 1, dtype=np.int32), images),
        similarity,
        1 - similarity,
        rng.integers(0, 2, size=len(query)).astype(np.int8),
    )


def write_run(
    dataset: Any, images: int, k: int, shape: tuple[int, int], seed: int
) -> tuple[Pairs, float]:
    """Write a run as explain_retrieval does, with noise for maps."""
    from fiftyone_sfam.pipeline.shards import empty_shard, summarize
    from fiftyone_sfam.retrieval.pairs import count_outcomes
    from fiftyone_sfam.runs.blobs import BlobStore, json_array, pack_maps
    from fiftyone_sfam.runs.run_config import COMPLETE, RunConfig, record_run
    from fiftyone_sfam.runs.run_table import (
        BY_BLOCK,
        PART_PAIRS,
        RunItems,
        RunTable,
        make_plan,
        shard_name,
        write_table,
    )

    rng = np.random.default_rng(seed)
    pairs = synthetic_pairs(images, k, rng)
    plan = make_plan(pairs, SHARD_IMAGES, BY_BLOCK)
    kinds = ("sfam", "evidence")
    labeled = np.ones(images, dtype=bool)
    config = RunConfig(
        uid="synthetic",
        state=COMPLETE,
        fingerprint="synthetic",
        model="noise",
        weights_hash="",
        layer="noise",
        map_shape=(512, *shape),
        metric="cosine",
        k=k,
        kinds=kinds,
        weights="signed",
        map_dtype="int8",
        protocol={},
        patches_field=None,
        embeddings="computed",
        shard_images=SHARD_IMAGES,
        order=BY_BLOCK,
        part_pairs=PART_PAIRS,
        counts={
            "images": images,
            "queries": images,
            "pairs": len(pairs),
            "skipped": 0,
            **count_outcomes(pairs, labeled, labeled),
        },
    )
    store = BlobStore(str(dataset._doc.id), config.uid, config.fingerprint)
    remainders = np.zeros((len(pairs), 2), dtype=np.float32)
    putting = 0.0
    for number in range(plan.num_shards):
        sides, image = plan.sides_of(number)
        shard = empty_shard(len(plan.images_of(number)), sides, image)
        shard["score"] = pairs.similarity[sides // 2].astype(np.float32)
        shard["size"][:] = 128, 256
        shard["crop"][:] = 0, 0, 1, 1
        shard["remainder"] = rng.normal(size=len(sides)).astype(np.float32)
        remainders.reshape(-1)[sides] = shard["remainder"]
        for kind in kinds:
            maps = rng.standard_normal((len(sides), *shape), dtype=np.float32)
            for part, values in pack_maps(maps, config.map_dtype).items():
                shard[f"{kind}_{part}"] = values
        shard["reasons"] = json_array({})
        start = time.perf_counter()
        store.put(shard_name(number), shard, summarize(shard, pairs, kinds[0]))
        putting += time.perf_counter() - start
    items = RunItems(
        np.array([f"{number:024x}" for number in range(images)]),
        None,
        tuple(f"person {number // 10}" for number in range(images)),
        tuple(f"camera {number % 8}" for number in range(images)),
        np.ones(images, dtype=bool),
        np.ones(images, dtype=bool),
    )
    write_table(store, RunTable(pairs, plan, remainders, items, ()))
    record_run(dataset, "sfam", config)
    return pairs, putting


def milliseconds(function: Callable[[], Any], times: int = 1) -> list[float]:
    """Time a function."""
    times_taken = []
    for _ in range(times):
        start = time.perf_counter()
        function()
        times_taken.append(1000 * (time.perf_counter() - start))
    return times_taken


def measure(
    images: int, k: int, shape: tuple[int, int], opened: int, seed: int = 0
) -> dict[str, Any]:
    """Write the run, open it, and open pairs of it."""
    import fiftyone as fo

    from fiftyone_sfam.runs.run import load_run

    dataset = fo.Dataset("storage")
    start = time.perf_counter()
    pairs, putting = write_run(dataset, images, k, shape, seed)
    written = time.perf_counter() - start
    rng = np.random.default_rng(seed + 1)
    chosen = rng.integers(0, len(pairs), size=opened).tolist()

    def cold(pair: int) -> None:
        maps = load_run(dataset, "sfam").maps(pair)
        assert maps.query is not None
        assert maps.gallery is not None
        assert maps.query.score == np.float32(pairs.similarity[pair])
        assert maps.gallery.maps["evidence"].shape == shape

    first = milliseconds(lambda: cold(chosen[0]))[0]
    colds = [milliseconds(partial(cold, pair))[0] for pair in chosen[:20]]
    run = load_run(dataset, "sfam")
    opens = [milliseconds(partial(run.maps, pair))[0] for pair in chosen]
    processor = time.process_time()
    for pair in chosen[:100]:
        run.maps(pair)
    processor = 10 * (time.process_time() - processor)
    columns = milliseconds(lambda: run.pairs)[0]
    np.testing.assert_array_equal(run.pairs.gallery, pairs.gallery)
    planned = milliseconds(lambda: run.plan)[0]
    items = milliseconds(lambda: run.items)[0]
    size, names = run.store.size(), run.store.names()
    shards = len([name for name in names if name.startswith("maps-")])
    raw = 2 * len(run.config.kinds) * shape[0] * shape[1]
    return {
        "pairs": len(pairs),
        "images": images,
        "map": list(shape),
        "shards": shards,
        "blobs": len(names),
        "write_s": round(written, 1),
        "put_shard_ms": round(1000 * putting / shards, 2),
        "bytes_per_pair": round(size / len(pairs), 1),
        "map_bytes_per_pair": raw,
        "open_run_and_first_pair_ms": round(first, 2),
        "open_run_and_pair_ms": round(float(np.median(colds)), 2),
        "open_pair_ms_at_1m" if len(pairs) >= 10**6 else "open_pair_ms": round(
            float(np.median(opens)), 2
        ),
        "open_pair_processor_ms": round(processor, 2),
        "open_pair_p95_ms": round(float(np.percentile(opens, 95)), 2),
        "all_columns_ms": round(columns, 1),
        "plan_ms": round(planned, 1),
        "items_ms": round(items, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--map", type=int, nargs=2, default=(16, 8))
    parser.add_argument("--opened", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    with isolated_database("sfam_storage"):
        figures = measure(args.images, args.k, tuple(args.map), args.opened, args.seed)
    text = json.dumps(figures, indent=2)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
