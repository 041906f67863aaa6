"""The demo worlds, with and without their defects, measured for the probabilities."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from isolated import isolated_database
from suspects_calibrated import Truth, Units, no_defects, units_of
from suspects_planted import MERGED, MISLABELED, SPLIT

from audit import SEEDS, explained
from fiftyone_sfam.audit.suspects.measures import Measured, measure
from fiftyone_sfam.retrieval.search import encode


def demo_units() -> tuple[list[dict[str, Units]], list[dict[str, Units]]]:
    """Measure the demo worlds: those with defects, and those without."""
    with (
        isolated_database("sfam_check_suspects_demo"),
        tempfile.TemporaryDirectory() as folder,
    ):
        return (
            [_world(seed, Path(folder), planted=True) for seed in SEEDS],
            [_world(seed, Path(folder), planted=False) for seed in SEEDS],
        )


def _world(seed: int, folder: Path, planted: bool) -> dict[str, Units]:
    import fiftyone as fo

    from fiftyone_sfam.demo.dataset import load_demo_dataset
    from fiftyone_sfam.demo.world import DefectPlan

    fo.config.show_progress_bars = False
    options: dict[str, Any] = {} if planted else {"defects": DefectPlan.none()}
    name = f"{'planted' if planted else 'clean'}-{seed}"
    dataset = load_demo_dataset(f"check-{name}", seed, folder / name, **options)
    run = explained(dataset)
    items = run.items
    measured = measure(
        run.embeddings(),
        run.config.metric,
        encode(list(items.identities)),
        encode(list(items.cameras)),
    )
    truth = _truth(measured, run, dataset.info["sfam_demo"]["planted"])
    dataset.delete()
    return units_of(measured, truth)


def _truth(measured: Measured, run: Any, planted: list[dict[str, Any]]) -> Truth:
    truth = no_defects(measured)
    codes = {
        name: code for code, name in enumerate(dict.fromkeys(run.items.identities))
    }
    samples = [str(sample) for sample in run.items.sample_ids]
    for one in planted:
        identities = [codes[name] for name in one["identities"] if name in codes]
        if one["kind"] == "wrong_label":
            truth[MISLABELED][np.isin(samples, one["samples"])] = 1
        elif one["kind"] == "split_identity":
            first, second = identities
            truth[SPLIT][[first, second], [second, first]] = 1
        elif one["kind"] == "merged_identity":
            truth[MERGED][identities[0]] = 1
    return truth
