"""What the engine on a Ray cluster costs and brings, beside the local one.

    python benchmarks/engines.py [--images 1000] [--workers 1 2] [--k 10]

The same run with the local engine and on a Ray cluster of this machine, with a network
of one thread everywhere: how long until the first images are done (workers have to
start, import and load the model), how many images a second after that, and whether
the stored bytes are the same. Prints JSON and writes it to
``benchmarks/out/engines.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isolated import isolated_database

if TYPE_CHECKING:
    from fiftyone_sfam import EmbeddingModel
    from fiftyone_sfam.runs.run import Run

OUT = Path(__file__).resolve().parent / "out" / "engines.json"
SIZE = (128, 64)
BATCH = 16


def make_dataset(count: int, folder: Path) -> Any:
    """Make crops of noise of the size that a person crop has."""
    import fiftyone as fo
    from PIL import Image

    samples = []
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(0, 256, (16, 8, 3), dtype=np.uint8)
        path = folder / f"{number:06d}.jpg"
        Image.fromarray(pixels).resize((SIZE[1], SIZE[0])).save(path, quality=90)
        samples.append(fo.Sample(filepath=str(path), identity=str(number // 10)))
    dataset = fo.Dataset("engines")
    dataset.add_samples(samples)
    return dataset


def network() -> EmbeddingModel:
    """ResNet-18 with random weights."""
    import torch
    import torchvision

    from fiftyone_sfam import EmbeddingModel, Preprocessing

    torch.manual_seed(0)
    model = torchvision.models.resnet18(weights=None)
    model.fc = torch.nn.Identity()
    return EmbeddingModel(model.eval(), Preprocessing(size=SIZE))


def stored(run: Run) -> dict[str, bytes]:
    """Return the bytes that are stored of a run."""
    bucket = run.store._bucket
    return {
        name: bucket.get(f"{run.config.uid}/{name}").read()
        for name in run.store.names()
    }


def measure(
    dataset: Any, model: EmbeddingModel, k: int, key: str, **options: Any
) -> tuple[dict[str, float], Run]:
    """Run once; return what it took, and the run."""
    from fiftyone_sfam import Protocol, explain_retrieval

    reports: list[tuple[float, int, str]] = []
    start = time.perf_counter()
    run = explain_retrieval(
        dataset,
        model,
        key=key,
        k=k,
        protocol=Protocol(identity_field="identity"),
        batch_size=BATCH,
        progress=lambda done, _total, phase: reports.append(
            (time.perf_counter(), done, phase)
        ),
        **options,
    )
    row = {"first_images_s": round(reports[0][0] - start, 2)}
    for phase in ("embedding", "explaining"):
        own = [(when, done) for when, done, of in reports if of == phase]
        seconds, images = own[-1][0] - own[0][0], own[-1][1] - own[0][1]
        row[f"{phase}_per_s"] = round(images / seconds, 1)
    row["seconds"] = round(time.perf_counter() - start, 1)
    return row, run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with isolated_database("sfam_engines") as folder:
        import ray
        import torch

        torch.set_num_threads(1)
        images = folder / "images"
        images.mkdir()
        dataset, model = make_dataset(args.images, images), network()
        row, run = measure(dataset, model, args.k, "here", num_workers=1)
        rows, expected = [{"engine": "local", **row}], stored(run)
        for workers in args.workers:
            ray.init(
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                object_store_memory=200 * 2**20,
            )
            options = {"num_workers": workers}
            row, run = measure(
                dataset,
                model,
                args.k,
                f"ray{workers}",
                engine="ray",
                engine_options=options,
            )
            same = stored(run) == expected
            rows.append({"engine": f"ray, {workers}", **row, "same_bytes": same})
            ray.shutdown()
    text = json.dumps({"images": args.images, "k": args.k, "rows": rows}, indent=2)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
