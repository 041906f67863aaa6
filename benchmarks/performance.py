"""Compare what an explained run costs with what computing embeddings costs.

Everything is measured as a ratio within one process: the variants of one network take
turns, and medians of their times are divided. Prints a table, and writes
``benchmarks/out/performance.json``.

Usage: ``python benchmarks/performance.py [--only NAME] [--images N] [--repeats N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import entry
from check_real import load_reference
from isolated import isolated_database
from performance_profile import profiled

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "performance.json"
BATCH = 32
# For both sides, as many as a run has by default.
WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Case:
    """A network, and the images that it is measured on."""

    name: str
    reference: str | None
    size: tuple[int, int] | None
    layer: str | None = None


CASES = (
    Case("osnet", "osnet_x0_25_msmt17", None),
    Case("mobilefacenet", "mobilefacenet", None),
    Case("resnet50", None, (256, 128)),
    Case("resnet18", None, (256, 128)),
    # Timm's, with random weights; direct contributions of the class token.
    Case("vit_tiny_patch16_224", None, (224, 224), "direct"),
)


def main() -> int:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only")
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=4, help="pairs of other packages")
    parser.add_argument(
        "--runs-only",
        action="store_true",
        help="no other packages: for an earlier version, put on PYTHONPATH",
    )
    parser.add_argument(
        "--best", action="store_true", help="only what the best maps of rank 1 cost"
    )
    arguments = parser.parse_args()
    if arguments.best:
        return best(arguments)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    with isolated_database("sfam_performance") as folder:
        if arguments.only is None and not arguments.runs_only:
            # First of all, while nothing else has imported torch.
            found |= entry.measure()
        for case in CASES:
            if arguments.only in (None, case.name):
                found[case.name] = measure(case, arguments, folder)
                OUT.write_text(json.dumps(found, indent=2) + "\n")
        if arguments.only is None and not arguments.runs_only:
            import storage

            opened = storage.measure(images=100_000, k=10, shape=(16, 8), opened=300)
            found["open_pair_ms_at_1m"] = opened["open_pair_ms_at_1m"]
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    print(table(found))
    return 0


def best(arguments: Any) -> int:
    """Print what the best maps of the pairs of rank 1 cost, in passes of embedding."""
    from fiftyone_sfam import Protocol, delete_run, explain_retrieval, list_runs

    with isolated_database("sfam_performance") as folder:
        for case in CASES:
            if arguments.only not in (None, case.name):
                continue
            model = make_model(case, arguments.assets)
            dataset = make_dataset(case, arguments, folder)
            theirs = for_fiftyone(model)
            options = {
                "k": 1,
                "protocol": Protocol(identity_field="identity"),
                "embeddings": embed(dataset, theirs),
                "batch_size": BATCH,
                "num_workers": WORKERS,
                "progress": False,
            }
            variants: dict[str, Callable[[], Any]] = {
                "embeddings": partial(embed, dataset, theirs),
                "without": partial(explain_retrieval, dataset, model, **options),
                "with": partial(
                    explain_retrieval,
                    dataset,
                    model,
                    kinds=("best", "sfam", "evidence"),
                    **options,
                ),
            }

            def forget(dataset: Any = dataset) -> None:
                for key in list_runs(dataset):
                    delete_run(dataset, key)

            forget()
            pairs = len(variants["without"]().pairs) / len(options["embeddings"])
            found = take_turns(variants, arguments.repeats, forget)
            passes = (found["with"] - found["without"]) / found["embeddings"]
            print(
                f"{case.name}: {passes:.1f} passes of embedding per image for the best "
                f"maps, {pairs:.2f} pairs of rank 1 per image",
                flush=True,
            )
            dataset.delete()
    return 0


def table(found: dict[str, Any]) -> str:
    """Return the figures as Markdown, a column for each network."""
    networks = {name: one for name, one in found.items() if isinstance(one, dict)}
    rows = [["", *networks], ["---"] * (1 + len(networks))]
    for key in next(iter(networks.values())):
        if key != "shares_of_stored_k10":
            rows.append([key, *(f"{one[key]:.4g}" for one in networks.values())])
    for stage in next(iter(networks.values()))["shares_of_stored_k10"]:
        shares = (one["shares_of_stored_k10"][stage] for one in networks.values())
        rows.append([f"share of time: {stage}", *(f"{share:.1%}" for share in shares)])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += [""]
    lines += [f"{key} {one}" for key, one in found.items() if key not in networks]
    return "\n".join(lines)


def measure(case: Case, arguments: Any, folder: Path) -> dict[str, Any]:
    """Measure one network."""
    from fiftyone_sfam import Protocol, delete_run, explain_retrieval, list_runs

    model = make_model(case, arguments.assets)
    dataset = make_dataset(case, arguments, folder)
    theirs = for_fiftyone(model)
    vectors = embed(dataset, theirs)
    protocol = Protocol(identity_field="identity")

    def run(k: int, embeddings: Any) -> Callable[[], Any]:
        return lambda: explain_retrieval(
            dataset,
            model,
            k=k,
            protocol=protocol,
            embeddings=embeddings,
            batch_size=BATCH,
            num_workers=WORKERS,
            progress=False,
        )

    def forget() -> None:
        for key in list_runs(dataset):
            delete_run(dataset, key)

    variants: dict[str, Callable[[], Any]] = {
        "embeddings": lambda: embed(dataset, theirs),
        "stored_k1": run(1, vectors),
        "stored_k10": run(10, vectors),
        "stored_k50": run(50, vectors),
        "computed_k10": run(10, None),
    }
    pairs = len(run(10, vectors)().pairs)
    forget()
    others, chosen = {}, []
    if not arguments.runs_only:
        chosen = some_pairs(model, dataset, arguments.pairs)
        others = against(model, chosen)
    # Every run is the first of its key; replacing one costs its deletion in addition.
    medians = take_turns(variants | others, arguments.repeats, forget)
    per_pair = {name: medians.pop(name) / len(chosen) for name in others}
    ours = medians["stored_k10"] / pairs
    forget()
    shares = profiled(run(10, vectors))
    found = {
        "images": len(vectors),
        "pairs_k10": pairs,
        "ratio_stored_k10": medians["stored_k10"] / medians["embeddings"],
        "ratio_computed_k10": medians["computed_k10"] / medians["embeddings"],
        "ratio_k50_over_k1": medians["stored_k50"] / medians["stored_k1"],
        **{f"speedup_vs_{name}": value / ours for name, value in per_pair.items()},
        "shares_of_stored_k10": shares,
        **{f"seconds_{name}": value for name, value in medians.items()},
        **{f"ms_per_pair_{name}": 1000 * value for name, value in per_pair.items()},
        "ms_per_pair": 1000 * ours,
    }
    if not arguments.runs_only:
        from performance_precision import compare_precisions

        found |= compare_precisions(model, dataset.values("filepath"))
    dataset.delete()
    return found


def take_turns(
    variants: dict[str, Callable[[], Any]], repeats: int, prepare: Callable[[], Any]
) -> dict[str, float]:
    """Time variants in turn; return their medians in seconds.

    Taking turns spreads what else the machine does over all of them. What prepares a
    variant is not timed.
    """
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, variant in variants.items():
            prepare()
            start = time.perf_counter()
            variant()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def embed(dataset: Any, theirs: Any) -> Any:
    """Compute embeddings as FiftyOne does."""
    return dataset.compute_embeddings(
        theirs, batch_size=BATCH, num_workers=WORKERS, progress=False
    )


def some_pairs(model: Any, dataset: Any, count: int) -> list[Any]:
    """Prepare pairs of successive images."""
    from performance_rivals import Pair

    from fiftyone_sfam.data.images import read_image

    paths = dataset.limit(2 * count).values("filepath")
    images = [model.prepare(read_image(path)) for path in paths]
    embeddings = [model.embed(image[None])[0] for image in images]
    return [
        Pair(*images[one : one + 2], *embeddings[one : one + 2])
        for one in range(0, len(images) - 1, 2)
    ]


def against(model: Any, pairs: list[Any]) -> dict[str, Callable[[], None]]:
    """Explain pairs one by one with other packages."""
    from performance_rivals import rivals

    def explain_each(explain: Callable[[Any], Any]) -> None:
        for pair in pairs:
            explain(pair)

    return {
        name: partial(explain_each, explain) for name, explain in rivals(model).items()
    }


def make_model(case: Case, assets: Path) -> Any:
    """Load a network with weights, or make one with random ones."""
    import torch
    import torchvision

    from fiftyone_sfam import EmbeddingModel, Preprocessing

    if case.reference is not None:
        network = load_reference(assets).load_reference_model(case.reference, assets)
        return EmbeddingModel(
            network, network.preprocess, metric=network.metric, name=case.name
        )
    assert case.size is not None
    torch.manual_seed(0)
    if case.layer is not None:
        import timm

        network = timm.create_model(case.name, num_classes=0)
    else:
        network = getattr(torchvision.models, case.name)(num_classes=256)
    preprocessing = Preprocessing(size=case.size)
    return EmbeddingModel(network, preprocessing, layer=case.layer, name=case.name)


def make_dataset(case: Case, arguments: Any, folder: Path) -> Any:
    """Make a dataset of real images, or of synthetic people."""
    from check_real import make_dataset as real_dataset

    if case.reference is None:
        from panels import crops

        return crops(folder / case.name, arguments.images)
    entry = load_reference(arguments.assets).REFERENCE_MODELS[case.reference]
    dataset = real_dataset(arguments.assets / "data" / entry.data_folder)
    dataset.delete_samples(dataset.skip(arguments.images))
    return dataset


def for_fiftyone(model: Any) -> Any:
    """Wrap a model as FiftyOne's own embedding pipeline takes it."""
    import fiftyone.core.models as fom
    import torch

    class Wrapped(fom.TorchModelMixin, fom.EmbeddingsMixin, fom.Model):
        media_type = "image"
        has_embeddings = True
        ragged_batches = False
        preprocess = True

        @property
        def transforms(self) -> Any:
            return model.prepare

        # FiftyOne's interface has it; computing embeddings never calls it.
        def predict(self, _image: Any) -> None:
            raise NotImplementedError

        def embed(self, image: Any) -> Any:
            return self.embed_all(image[None])[0]

        def embed_all(self, images: Any) -> Any:
            if not isinstance(images, torch.Tensor):
                images = torch.stack(list(images))
            return model.embed(images).cpu().numpy()

        # Likewise.
        def get_embeddings(self) -> None:
            raise NotImplementedError

    return Wrapped()


if __name__ == "__main__":
    sys.exit(main())
