"""How much memory a run takes as the number of images grows.

    python benchmarks/memory.py [--images 1000 10000 100000] [--k 10]

Each size runs in a process of its own over tiny synthetic images, with a tiny network
whose embeddings are as wide as real ones, so that what grows is what a run keeps and
not what the network needs. ``stated_mb`` is what docs/scale.md says that it needs; the
rest, ``unstated_mb``, must not grow, and the command fails where it does. Prints JSON
and writes it to ``benchmarks/out/memory.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isolated import isolated_database

if TYPE_CHECKING:
    from fiftyone_sfam import EmbeddingModel

OUT = Path(__file__).resolve().parent / "out" / "memory.json"
SIDE = 16
WIDTH = 512
BATCH = 64
TOLERATED_MB = 32


def peak_mb() -> float:
    """Return the most memory that this process had, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def tiny_model() -> EmbeddingModel:
    """A network whose feature map is 8 x 4 x 4 and whose embedding has 512 numbers."""
    import torch
    from torch import nn

    from fiftyone_sfam import EmbeddingModel, Preprocessing

    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, WIDTH),
    )
    return EmbeddingModel(network.eval(), Preprocessing(size=(SIDE, SIDE)))


def make_dataset(count: int, folder: Path) -> Any:
    """Make images of noise, ten of each identity."""
    import fiftyone as fo
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    dataset = fo.Dataset("memory")
    for start in range(0, count, 5000):
        samples = []
        for number in range(start, min(start + 5000, count)):
            pixels = np.random.default_rng(number // 10).integers(0, 200, (4, 4, 3))
            pixels = pixels + rng.integers(0, 56, (4, 4, 3))
            path = folder / f"{number:06d}.bmp"
            image = Image.fromarray(pixels.astype(np.uint8))
            image.resize((SIDE, SIDE)).save(path)
            samples.append(
                fo.Sample(filepath=str(path), identity=str(number // 10), camera="c")
            )
        dataset.add_samples(samples)
    return dataset


def stated_mb(images: int, pairs: int) -> float:
    """Return what docs/scale.md says that a run's process needs at most, in MiB."""
    embeddings, items = 4 * WIDTH * images, 800 * images
    block = 2.5 * min(64 * 2**20, 4 * images**2)
    searching, planning = 4 * WIDTH * images + block, 250 * pairs
    return (embeddings + items + max(searching, planning)) / 2**20


def run_child(count: int, k: int, database: str) -> None:
    """Make a dataset in one process and explain it in this one; print what it took."""
    import fiftyone as fo

    from fiftyone_sfam import Protocol, explain_retrieval

    dataset = fo.load_dataset("memory")
    model = tiny_model()
    bare = dataset.stats()["samples_bytes"]
    before = peak_mb()
    start = time.perf_counter()
    phases: dict[str, float] = {}
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}

    def progress(_done: int, _total: int, phase: str) -> None:
        phases[phase] = peak_mb()
        ended[phase] = time.perf_counter()
        begun.setdefault(phase, ended[phase])

    run = explain_retrieval(
        dataset,
        model,
        k=k,
        protocol=Protocol(identity_field="identity"),
        batch_size=BATCH,
        cache_bytes=0,
        progress=progress,
    )
    pairs = run.config.counts["pairs"]
    result = {
        "images": count,
        "pairs": pairs,
        "seconds": round(time.perf_counter() - start, 1),
        "embedding_s": round(ended["embedding"] - start, 1),
        "neighbors_s": round(begun["explaining"] - ended["embedding"], 1),
        "explaining_s": round(ended["explaining"] - begun["explaining"], 1),
        "publishing_s": round(time.perf_counter() - ended["explaining"], 1),
        "before_mb": round(before, 1),
        "after_embedding_mb": round(phases["embedding"], 1),
        "after_explaining_mb": round(phases["explaining"], 1),
        "peak_mb": round(peak_mb(), 1),
        "grown_mb": round(peak_mb() - before, 1),
        "stated_mb": round(stated_mb(count, pairs), 1),
        "stored_bytes_per_pair": round(run.store.size() / pairs, 1),
        "field_bytes_per_image": round(
            (dataset.stats()["samples_bytes"] - bare) / count
        ),
    }
    print("RESULT " + json.dumps(result), flush=True)


def child(*args: str) -> str:
    """Run this script in a process of its own; return what it says."""
    done = subprocess.run(
        [sys.executable, __file__, *args],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(args)} failed:\n{done.stderr[-3000:]}")
    return done.stdout


def measure(counts: list[int], k: int, folder: Path) -> list[dict[str, float]]:
    """Measure each number of images."""
    import fiftyone as fo
    from fiftyone.core.odm import get_db_conn

    host, port = get_db_conn().client.address
    os.environ["FIFTYONE_DATABASE_URI"] = f"mongodb://{host}:{port}"
    rows = []
    for count in counts:
        images = folder / str(count)
        images.mkdir()
        child("--make", str(count), "--folder", str(images))
        said = child("--run", str(count), "--k", str(k))
        line = next(one for one in said.splitlines() if one.startswith("RESULT "))
        rows.append(json.loads(line.removeprefix("RESULT ")))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
        fo.delete_dataset("memory")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[1000, 10_000, 100_000]
    )
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--make", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.make:
        make_dataset(args.make, args.folder).persistent = True
        return
    if args.run:
        run_child(args.run, args.k, "memory")
        return
    with isolated_database("sfam_memory") as folder:
        rows = measure(args.images, args.k, folder)
    first = rows[0]
    for row in rows:
        row["unstated_mb"] = round(row["grown_mb"] - row["stated_mb"], 1)
        row["bytes_per_image"] = round(
            2**20
            * (row["grown_mb"] - first["grown_mb"])
            / max(1, row["images"] - first["images"])
        )
    grown = max(row["unstated_mb"] for row in rows) - first["unstated_mb"]
    text = json.dumps({"k": args.k, "width": WIDTH, "rows": rows}, indent=2)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)
    if grown > TOLERATED_MB:
        raise SystemExit(f"memory that is not stated has grown by {grown:.0f} MiB.")


if __name__ == "__main__":
    main()
