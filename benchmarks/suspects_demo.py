"""The demo worlds, with and without their defects, measured for the probabilities."""

from __future__ import annotations

import numpy as np
import torch
from suspects_calibrated import Truth, Units, no_defects, units_of
from suspects_planted import MERGED, MISLABELED, SPLIT

from audit import SEEDS
from fiftyone_sfam.audit.suspects.measures import Measured, measure
from fiftyone_sfam.demo.world import DefectPlan, World, generate_world, render
from fiftyone_sfam.models import load_model
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.retrieval.search import encode


def demo_units() -> tuple[list[dict[str, Units]], list[dict[str, Units]]]:
    """Measure the demo worlds: those with defects, and those without."""
    model = load_model("demo")
    planted = [_units(generate_world(seed), model) for seed in SEEDS]
    none = DefectPlan.none()
    clean = [_units(generate_world(seed, defects=none), model) for seed in SEEDS]
    return planted, clean


def _units(world: World, model: EmbeddingModel) -> dict[str, Units]:
    images = torch.stack([model.prepare(render(crop).image) for crop in world.crops])
    with torch.inference_mode():
        parts = [model.embed(part).numpy() for part in images.split(32)]
    measured = measure(
        np.concatenate(parts),
        model.metric,
        encode([crop.identity for crop in world.crops]),
        encode([crop.camera for crop in world.crops]),
    )
    return units_of(measured, _truth(measured, world))


def _truth(measured: Measured, world: World) -> Truth:
    truth = no_defects(measured)
    names = [crop.identity for crop in world.crops]
    codes = dict(zip(names, measured.space.identities.tolist(), strict=True))
    crops = [crop.crop_id for crop in world.crops]
    for one in world.planted:
        identities = [codes[name] for name in one.identities if name in codes]
        if one.kind == "wrong_label":
            truth[MISLABELED][np.isin(crops, one.crops)] = 1
        elif one.kind == "split_identity":
            first, second = identities
            truth[SPLIT][[first, second], [second, first]] = 1
        elif one.kind == "merged_identity":
            truth[MERGED][identities[0]] = 1
    return truth
