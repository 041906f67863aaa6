"""Look for suspects in real faces and persons, and for labels corrupted on purpose.

Runs three face networks on aligned chips and a re-ID network on Market-1501 out of the
private assets, and prints the first suspects of each with their figures and the names
of their files, to be looked at. Then 5 % of the labels are replaced at random, ten
times, and the images are ranked by how much their label is doubted: average precision
of finding the corrupted ones, by scikit-learn. Labels that are wrong in the data
themselves count as false alarms there. Writes ``benchmarks/out/suspects.json``: figures
only, no names.

Usage: ``python benchmarks/check_suspects.py [--assets DIR] [--only NAME] [--sheets
DIR]``. With ``--sheets`` the images of the first suspects are drawn into a folder; the
images are private, so it must not be in the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from check_real import CASES, ROOT, load_reference, make_dataset
from isolated import isolated_database

OUT = ROOT / "benchmarks" / "out" / "suspects.json"
K = 5
FIRST = 10
# Low enough that there are ten to look at, also where few reach the threshold.
LEAST = 0.05
CORRUPTED = 0.05
SEEDS = range(10)


@dataclass(frozen=True)
class Report:
    """What was found with one network; see :func:`check_network`."""

    model: str
    images: int
    identities: int
    findings: dict[str, int]
    average_precision: tuple[float, ...]
    mean_average_precision: float
    precision_at_threshold: float
    recall_at_threshold: float
    auc: float
    first: tuple[dict[str, Any], ...]


def main() -> int:
    """Check all networks; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    parser.add_argument("--only", help="title of one network")
    parser.add_argument("--sheets", type=Path, help="folder outside the checkout")
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    sheets = arguments.sheets and arguments.sheets.resolve()
    if sheets and sheets.is_relative_to(ROOT):
        print(f"{sheets} is in the checkout; give another folder", file=sys.stderr)
        return 2
    chosen = [
        case
        for case in CASES
        if case.layer is None and arguments.only in (None, case.title)
    ]
    with isolated_database("sfam_check_suspects"):
        reports = [
            check_network(case.reference, case.title, arguments.assets, sheets)
            for case in chosen
        ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps([asdict(report) for report in reports], indent=2) + "\n")
    return 0


def check_network(
    reference: str, title: str, assets: Path, sheets: Path | None
) -> Report:
    """Find the suspects of one network's images, then those planted among them."""
    import numpy as np

    from fiftyone_sfam import EmbeddingModel, Protocol, explain_retrieval
    from fiftyone_sfam.audit.suspects.search import MIN_SCORE, find_suspects

    module = load_reference(assets)
    network = module.load_reference_model(reference, assets)
    dataset = make_dataset(
        assets / "data" / module.REFERENCE_MODELS[reference].data_folder
    )
    model = EmbeddingModel(
        network, network.preprocess, metric=network.metric, name=title
    )
    cameras = any(dataset.values("camera"))
    protocol = Protocol("identity", camera_field="camera" if cameras else None)
    run = explain_retrieval(dataset, model, k=K, protocol=protocol)
    suspects = find_suspects(run, region_field=None, min_score=LEAST)
    above = Counter(one.kind for one in suspects.findings if one.score >= MIN_SCORE)
    paths = dataset.values("filepath")
    print(f"\n{title}: {len(paths)} images, above the threshold {dict(above)}")
    for limit in suspects.limits:
        print(f"  ({limit})")
    for number, one in enumerate(suspects.findings[:FIRST], start=1):
        print(f"  {number:2}. {one.score:.2f} {one.kind}: {one.sentence}")
        names = [Path(paths[item]).name for item in one.items]
        print(f"      {', '.join(names[:6])}{' ...' if len(names) > 6 else ''}")
        if sheets is not None:
            draw_sheet(run, one, paths, sheets / f"{title}-{number:02}.png")
    quality = [find_corrupted(run, seed) for seed in SEEDS]
    precision, right, found, planted, auc = (
        np.array(column, dtype=float) for column in zip(*quality, strict=True)
    )
    report = Report(
        title,
        len(paths),
        len(set(run.items.identities)),
        {kind: above[kind] for kind in suspects.kinds},
        tuple(round(float(value), 4) for value in precision),
        round(float(precision.mean()), 4),
        round(float(right.sum() / found.sum()), 4),
        round(float(right.sum() / planted.sum()), 4),
        round(float(auc.mean()), 4),
        tuple(
            {
                "kind": one.kind,
                "score": round(one.score, 3),
                # Names of people stay out of what is written.
                "evidence": {
                    name: round(value, 3)
                    for name, value in one.evidence.items()
                    if isinstance(value, float)
                },
            }
            for one in suspects.findings[:FIRST]
        ),
    )
    print(
        f"  5 % corrupted, {len(quality)} seeds: average precision "
        f"{precision.mean():.3f} ({precision.min():.3f} to {precision.max():.3f}), "
        f"at the threshold precision {report.precision_at_threshold:.3f} and recall "
        f"{report.recall_at_threshold:.3f}",
        flush=True,
    )
    dataset.delete()
    return report


def find_corrupted(run: Any, seed: int) -> tuple[float, int, int, int, float]:
    """Replace labels at random, and rank the images by how much theirs is doubted.

    Returns
    -------
    tuple
        Average precision; corrupted images above the threshold, all images above it,
        and all corrupted ones; area under the ROC curve.
    """
    import numpy as np
    from sklearn.metrics import average_precision_score, roc_auc_score

    from fiftyone_sfam.audit.suspects.build import image_scores
    from fiftyone_sfam.audit.suspects.measures import measure
    from fiftyone_sfam.retrieval.search import encode

    generator = np.random.default_rng(seed)
    labels = np.array(run.items.identities)
    names = np.unique(labels)
    count = round(CORRUPTED * len(labels))
    corrupted = np.zeros(len(labels), dtype=bool)
    corrupted[generator.choice(len(labels), count, replace=False)] = True
    for image in np.flatnonzero(corrupted):
        labels[image] = generator.choice(names[names != labels[image]])
    measured = measure(
        run.embeddings(),
        run.config.metric,
        encode(labels.tolist()),
        encode(list(run.items.cameras)),
    )
    # An image that is left alone in its identity cannot be judged: it comes last.
    scores = np.nan_to_num(image_scores(measured), nan=0.0)
    flagged = measured.images.is_mislabeled
    return (
        float(average_precision_score(corrupted, scores)),
        int((flagged & corrupted).sum()),
        int(flagged.sum()),
        count,
        float(roc_auc_score(corrupted, scores)),
    )


def draw_sheet(run: Any, finding: Any, paths: list[str], target: Path) -> None:
    """Draw the images of a finding above those of the identities that it names."""
    from PIL import Image

    height, most = 160, 10
    rows = [list(finding.items)[:most]]
    for name in finding.identities:
        members = [item for item, own in enumerate(run.items.identities) if own == name]
        rows.append([item for item in members if item not in rows[0]][:most])
    sheet = Image.new("RGB", (most * height, len(rows) * (height + 6)), "white")
    for down, row in enumerate(rows):
        for right, item in enumerate(row):
            with Image.open(paths[item]) as opened:
                image = opened.convert("RGB")
            image.thumbnail((height, height))
            sheet.paste(image, (right * height, down * (height + 6)))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)


if __name__ == "__main__":
    sys.exit(main())
