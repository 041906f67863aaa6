"""Measure what stored contributions cost, and how well they explain real pairs.

Runs the real embedders of the private assets with ``contributions`` in several forms,
and compares what the database then says with the live maps: the evidence of every pair
of the run, and the correspondences of the strongest positions of some pairs. A process
that never imports torch explains random pairs from the database, and is timed. Prints a
line per form, writes ``benchmarks/out/contributions.json`` and ends with exit code 1
where a goal is missed.

Usage: ``python benchmarks/contributions.py [--assets DIR] [--only NAME] [--images N]``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from check_real import CASES as REAL
from check_real import load_case, load_reference, make_dataset, prepared
from isolated import isolated_database

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "contributions.json"
K = 5
# Goals of 8 bits without a projection.
LEAST_CORRELATION = 0.995
MOST_MILLISECONDS = 20
POINT_PAIRS = 30
POINTS = 2
TIMED_PAIRS = 200
CHIPS = "lfw_subset_chips112x96"


@dataclass(frozen=True)
class Case:
    """One network at one layer, and the forms in which contributions are stored."""

    title: str
    load: Callable[[Path], Any]  # returns the model
    folder: str
    dims: tuple[int | None, ...] = (None, 64)


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured of a case in one form."""

    model: str
    layer: str
    grid: str
    width: int  # numbers of the embedding
    form: str
    images: int
    image_bytes: int  # of an image, as the run says
    evidence_least: float
    evidence_median: float
    point_least: float
    point_median: float
    pair_ms: float  # median of a pair with both sides' evidence
    points_ms: float  # median of all its correspondences, without reading
    run_seconds: float
    plain_seconds: float  # of the same run without contributions


def main() -> int:
    """Measure all cases; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", help="beginning of the titles of the models")
    parser.add_argument("--images", type=int, default=200, help="images per model")
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        return read_pairs(*arguments.read)
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    rows: list[Row] = []
    with isolated_database("sfam_contributions"):
        for case in CASES:
            if case.title.startswith(arguments.only or ""):
                rows += measure(case, arguments.assets, arguments.images)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    missed = [text for row in rows for text in missed_goals(row)]
    print("\n".join(missed) if missed else "all goals are met")
    return 1 if missed else 0


def missed_goals(row: Row) -> list[str]:
    """Name the goals that a row misses; a projection has no goal."""
    if row.form != "int8":
        return []
    checks = (
        (row.evidence_least >= LEAST_CORRELATION, f"evidence {row.evidence_least:.4f}"),
        (row.pair_ms <= MOST_MILLISECONDS, f"{row.pair_ms:.1f} ms per pair"),
    )
    where = f"{row.model} at {row.layer}"
    return [f"{where}: {text}" for holds, text in checks if not holds]


def measure(case: Case, assets: Path, images: int) -> list[Row]:
    """Run a network with contributions in several forms, and compare."""
    from fiftyone_sfam import Protocol, explain_retrieval

    model = case.load(assets)
    dataset = make_dataset(assets / "data" / case.folder)
    dataset.persistent = True
    view = dataset.limit(images)
    # The layer is found before anything is timed.
    model.find_layer(prepared(model, dataset.first().filepath)[None])
    options: dict[str, Any] = {
        "k": K,
        "protocol": Protocol("identity"),
        "kinds": ["evidence"],
        "map_dtype": "float32",
    }
    started = time.perf_counter()
    explain_retrieval(view, model, key="plain", **options)
    plain = time.perf_counter() - started
    rows = []
    for number, dims in enumerate(case.dims):
        key = f"run{number}"
        started = time.perf_counter()
        run = explain_retrieval(
            view,
            model,
            key=key,
            contributions="int8",
            contribution_dims=dims,
            **options,
        )
        seconds = time.perf_counter() - started
        config = run.config
        form = "int8" if config.contribution_dims is None else f"int8, {dims} dims"
        evidence = evidence_correlations(run)
        points = point_correlations(model, run, view.values("filepath"))
        timed = timed_reading(dataset.name, key)
        row = Row(
            model=case.title,
            layer=config.layer,
            grid=f"{config.map_shape[1]}x{config.map_shape[2]}",
            width=run.embeddings().shape[1],
            form=form,
            images=len(view),
            image_bytes=config.contribution_bytes or 0,
            evidence_least=min(evidence),
            evidence_median=median(evidence),
            point_least=min(points),
            point_median=median(points),
            run_seconds=seconds,
            plain_seconds=plain,
            **timed,
        )
        rows.append(row)
        print(describe(row), flush=True)
    dataset.delete()
    return rows


def describe(row: Row) -> str:
    """Describe a row in a line."""
    return (
        f"{row.model} at {row.layer} {row.grid}, D = {row.width}, {row.form}: "
        f"{row.image_bytes / 1000:.1f} kB per image, evidence "
        f"{row.evidence_least:.4f} / {row.evidence_median:.4f}, point "
        f"{row.point_least:.4f} / {row.point_median:.4f} (least / median), "
        f"{row.pair_ms:.1f} ms per pair + {row.points_ms:.1f} for all correspondences, "
        f"run {row.run_seconds:.0f} s ({row.plain_seconds:.0f} s without)"
    )


# --------------------------------------------------------------------------------------
# Comparison
# --------------------------------------------------------------------------------------


def correlation(first: Any, second: Any) -> float:
    """Correlate two maps."""
    import numpy as np

    return float(np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1])


def evidence_correlations(run: Any) -> list[float]:
    """Correlate each side's evidence with the map that the run stores in float32."""
    ids, pairs, values = run.items.ids, run.pairs, []
    for pair, maps in enumerate(run.many_maps(range(len(pairs)))):
        stored = run.explain_stored(
            str(ids[pairs.query[pair]]), str(ids[pairs.gallery[pair]])
        )
        values += [
            correlation(kept.evidence, live.maps["evidence"])
            for kept, live in (
                (stored.query, maps.query),
                (stored.gallery, maps.gallery),
            )
        ]
    return values


def point_correlations(model: Any, run: Any, paths: list[str]) -> list[float]:
    """Correlate the correspondences of the strongest positions of some pairs."""
    import numpy as np

    from fiftyone_sfam import explain_pair

    generator = np.random.default_rng(0)
    pairs, ids, values = run.pairs, run.items.ids, []
    for pair in generator.choice(len(pairs), POINT_PAIRS, replace=False):
        query, gallery = int(pairs.query[pair]), int(pairs.gallery[pair])
        live = explain_pair(model, paths[query], paths[gallery])
        stored = run.explain_stored(str(ids[query]), str(ids[gallery]))
        evidence = live.query.evidence
        for place in np.argsort(-np.abs(evidence).reshape(-1))[:POINTS]:
            at = divmod(int(place), evidence.shape[1])
            values.append(correlation(stored.point(*at), live.point(*at)))
    return values


def median(values: list[float]) -> float:
    """Return the median."""
    import numpy as np

    return float(np.median(values))


# --------------------------------------------------------------------------------------
# Time
# --------------------------------------------------------------------------------------


def timed_reading(dataset: str, key: str) -> dict[str, float]:
    """Time a process of its own that explains pairs from the database."""
    command = [sys.executable, __file__, "--read", dataset, key]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def read_pairs(dataset: str, key: str) -> int:
    """Explain random pairs from the database, and print how long one takes."""
    import fiftyone as fo
    import numpy as np

    from fiftyone_sfam import load_run

    run = load_run(fo.load_dataset(dataset), key)
    ids = run.items.ids
    generator = np.random.default_rng(1)
    reading, all_points = [], []
    for _ in range(TIMED_PAIRS):
        query, gallery = generator.choice(len(ids), 2, replace=False)
        started = time.perf_counter()
        pair = run.explain_stored(str(ids[query]), str(ids[gallery]))
        reading.append(1000 * (time.perf_counter() - started))
        started = time.perf_counter()
        pair.points()
        all_points.append(1000 * (time.perf_counter() - started))
    if "torch" in sys.modules:
        print("torch was imported", file=sys.stderr)
        return 1
    print(json.dumps({"pair_ms": median(reading), "points_ms": median(all_points)}))
    return 0


# --------------------------------------------------------------------------------------
# Networks
# --------------------------------------------------------------------------------------


def reference(name: str, layer: str | None = None) -> Callable[[Path], Any]:
    """Load one of the assets' reference networks."""

    def load(assets: Path) -> Any:
        from fiftyone_sfam import EmbeddingModel

        network = load_reference(assets).load_reference_model(name, assets)
        return EmbeddingModel(
            network, network.preprocess, layer=layer, metric=network.metric, name=name
        )

    return load


def edgeface(assets: Path) -> Any:
    """Load EdgeFace-XS, which is timm's ``edgenext_x_small``."""
    import timm
    import torch

    from fiftyone_sfam import EmbeddingModel

    network = timm.create_model("edgenext_x_small", num_classes=512)
    stored = torch.load(assets / "weights/edgeface_xs_fp16.pth", weights_only=True)
    network.load_state_dict({name: part.float() for name, part in stored.items()})
    return EmbeddingModel(network.eval(), padded_chip, name="edgeface_xs")


def class_token_vit(assets: Path) -> Any:
    """Load the assets' vision transformer with a class token."""
    sys.path.insert(0, str(assets))
    from class_token_vit import load_class_token_vit

    from fiftyone_sfam import EmbeddingModel

    return EmbeddingModel(
        load_class_token_vit(assets), chip, layer="stem", name="class_token_vit"
    )


def onnx_file(title: str) -> Callable[[Path], Any]:
    """Load one of the assets' ONNX files, as ``check_real.py`` does."""
    (case,) = (case for case in REAL if case.title == title)
    return lambda assets: load_case(case, assets)[0]


def pixels(image: Any) -> Any:
    """Return an image as float32 of shape (3, H, W)."""
    import numpy as np
    import torch

    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()


def chip(image: Any) -> Any:
    """Prepare a chip of 112x96 for the transformer."""
    return (pixels(image) - 127.5) / 128


def padded_chip(image: Any) -> Any:
    """Prepare a chip of 112x96, with black columns on either side, for EdgeFace."""
    import torch

    return torch.nn.functional.pad(pixels(image), (8, 8)) / 127.5 - 1


CASES = (
    Case(
        "osnet",
        reference("osnet_x0_25_msmt17"),
        "market1501_subset",
        (None, 128, 64),
    ),
    Case("hse_faceres", reference("hse_faceres_mobilenetv1"), "lfw_subset_chips150"),
    Case("mobilefacenet", reference("mobilefacenet"), CHIPS),
    Case("dlib", reference("dlib_resnet"), "lfw_subset_chips150"),
    Case(
        "dlib conv256_2", reference("dlib_resnet", "conv256_2"), "lfw_subset_chips150"
    ),
    Case("edgeface", edgeface, CHIPS),
    Case("vit stem", class_token_vit, CHIPS),
    Case("onnx mobilefacenet", onnx_file("mobilefacenet_onnx"), CHIPS),
    Case("onnx osnet", onnx_file("osnet_onnx"), "market1501_subset"),
)


if __name__ == "__main__":
    sys.exit(main())
