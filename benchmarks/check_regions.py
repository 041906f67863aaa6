"""Check the ledger of regions on real images: who carries the score, and is it so?

Runs OSNet over the private Market-1501 images with the cross-camera protocol, splits
the similarities of the images that have person masks into person and background, by
outcome, and replaces, paints over and blurs the background to compare the measured drop
with the ledger's claim. Prints tables and writes ``benchmarks/out/regions.json``. It
reports; the only bound is that the rows of the ledger add up to the score.

Usage: ``python benchmarks/check_regions.py [--assets DIR]``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from check_real import load_reference, make_dataset
from isolated import isolated_database

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "out" / "regions.json"
K = 10
PERSON, BACKGROUND = "person", "background"
CHANGES = ("replace", "mean", "blur")
BOUND = 1e-5


def main() -> int:
    """Measure and report; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("FIFTYONE_SFAM_ASSETS", ROOT.parent / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=Path(default))
    arguments = parser.parse_args()
    if not arguments.assets.is_dir():
        print(f"no assets at {arguments.assets}; give --assets", file=sys.stderr)
        return 2
    with isolated_database("sfam_check_regions"):
        found = measure(arguments.assets)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps(found, indent=2) + "\n")
    if found["sum_error"] > BOUND:
        print(f"the rows miss the score by {found['sum_error']:.2e}")
        return 1
    return 0


def measure(assets: Path) -> dict[str, Any]:
    """Explain, split and change; return the figures."""
    import numpy as np

    from fiftyone_sfam import EmbeddingModel, Protocol, explain_retrieval
    from fiftyone_sfam.audit.regions.ledger import build_ledger, pair_groups, summarize
    from fiftyone_sfam.audit.regions.shortcuts import find_shortcuts

    reference = load_reference(assets)
    network = reference.load_reference_model("osnet_x0_25_msmt17", assets)
    model = EmbeddingModel(network, network.preprocess, name="osnet")
    dataset = with_masks(make_dataset(assets / "data" / "market1501_subset"), assets)
    run = explain_retrieval(
        dataset, model, k=K, protocol=Protocol("identity", camera_field="camera")
    )
    ledger = build_ledger(run, PERSON)
    known = ~np.isnan(ledger.shares[:, 0, 0])
    rows = ledger.shares[:, 0].sum(axis=1, dtype=np.float64) + ledger.remainder[:, 0]
    print(
        f"{len(dataset)} images, {len(ledger.missing)} of them without a mask; "
        f"{len(ledger)} pairs, {int(known.sum())} with a mask on the query"
    )
    outcomes = pair_groups(run, "outcome")
    tables = {}
    for title, wanted in (
        ("all stored pairs", np.ones(len(ledger), dtype=bool)),
        ("rank 1", ledger.rank == 1),
        ("up to rank 10", ledger.rank <= K),
    ):
        labels = [
            outcomes[pair] if keep else None
            for pair, keep in zip(ledger.pairs.tolist(), wanted, strict=True)
        ]
        cells = summarize(ledger, {"outcome": labels})
        tables[title] = [asdict(cell) for cell in cells]
        print(f"\n{title}\n{table(cells)}")
    checks = {change: check(run, model, ledger, change) for change in CHANGES}
    person = check(run, model, ledger, "replace", PERSON)
    shortcuts = find_shortcuts(run, ledger, kinds=("identity", "camera"), save=False)
    print("\nwhat rests on the background most:")
    print("\n".join(one.sentence for one in shortcuts.found[:5]))
    return {
        "images": len(dataset),
        "without_mask": len(ledger.missing),
        "pairs": len(ledger),
        "pairs_with_query_mask": int(known.sum()),
        "sum_error": float(np.abs(rows - ledger.score)[known].max()),
        "ledger": tables,
        "causal": {**checks, "replace the person": person},
        "shortcuts": [one.sentence for one in shortcuts.found],
    }


def with_masks(dataset: Any, assets: Path) -> Any:
    """Give the images that have one their person mask."""
    import fiftyone as fo

    folder = assets / "data" / "market1501_subset_masks"
    masks = []
    for path in dataset.values("filepath"):
        mask = folder / f"{Path(path).stem}.png"
        masks.append(fo.Segmentation(mask_path=str(mask)) if mask.is_file() else None)
    dataset.set_values(PERSON, masks)
    dataset.mask_targets = {PERSON: {255: PERSON}}
    dataset.save()
    return dataset


def table(cells: Iterable[Any]) -> str:
    """Lay out the cells of a ledger as text."""
    lines = [
        f"{'outcome':<13}{'region':<16}{'pairs':>6}{'queries':>9}{'value':>8}"
        f"{'of score':>10}  {'95 % interval':<16}{'of evidence':>12}{'of area':>9}"
    ]
    for cell in cells:
        interval = f"{100 * cell.low:.1f} to {100 * cell.high:.1f} %"
        lines.append(
            f"{cell.groups[0][1]:<13}{cell.region:<16}{cell.pairs:>6}{cell.queries:>9}"
            f"{cell.value:>8.3f}{100 * cell.share:>8.1f} %  {interval:<16}"
            f"{100 * cell.of_evidence:>10.1f} %{100 * cell.area:>7.1f} %"
        )
    return "\n".join(lines)


def check(
    run: Any, model: Any, ledger: Any, change: Any, region: str = BACKGROUND
) -> dict[str, Any]:
    """Change a region of the queries of rank 1, and report."""
    from fiftyone_sfam.audit.regions.causal import check_causally

    found = check_causally(
        run,
        model,
        ledger=ledger,
        region=region,
        change=change,
        limit=len(ledger),
        save=False,
    )
    print(f"\n{found.sentence}")
    figures: dict[str, Any] = {"pairs": len(found), "skipped": len(found.skipped)}
    for name in ("score", "claim", "drop", "control_claim", "control_drop"):
        figures[f"mean_{name}"] = float(getattr(found, name).mean())
    for name, meaning in (
        ("correlation", "claim with drop"),
        ("share_correlation", "both as shares of the score"),
        ("control_correlation", "claim with drop, region rolled to a random place"),
        ("crossed_correlation", "claim with the drop of the rolled region"),
        ("area_correlation", "area with drop"),
    ):
        figures[name] = asdict(getattr(found, name))
        print(f"  {meaning}: {getattr(found, name)}")
    return figures


if __name__ == "__main__":
    sys.exit(main())
