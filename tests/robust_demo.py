"""The demo network without its shortcut, and demo images whose wall has a mask."""

from __future__ import annotations

import copy
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from fiftyone_sfam.demo.network import DEMO_PREPROCESSING, DemoNet, load_demo_network
from fiftyone_sfam.demo.scenes import STRIKING_SCENE
from fiftyone_sfam.demo.world import DefectPlan, generate_world, render
from fiftyone_sfam.network.embedder import EmbeddingModel

if TYPE_CHECKING:
    import fiftyone as fo

# A world that is not shown, tested or trained on.
_SEED = 900_001
_IDENTITIES, _IMAGES = 8, 4
# How strongly the head is damped; more costs rank-1.
_DAMPING = 0.1
# From the feet of a person to the top of the floor, in person heights, and the feet's
# height in the picture, as demo/shot.py draws them.
_FLOOR, _FEET = 0.11, 0.965


def robust_network() -> DemoNet:
    """Damp the head along what the feature map holds of walls and ground.

    With ``C`` the mean of ``A(p) A(p)^T`` over cells of the background, before usual
    walls and the striking one, the head becomes ``W (I + C / c)^-1``: the least change
    of ``W``, on features of unit covariance, that also keeps its answer to the
    background small.
    """
    network = copy.deepcopy(load_demo_network())
    world = generate_world(
        _SEED,
        identities=_IDENTITIES,
        images_per_identity=_IMAGES,
        defects=DefectPlan.none(),
    )
    shots = [
        replace(crop, shot=replace(crop.shot, scene=STRIKING_SCENE))
        if place % 2
        else crop
        for place, crop in enumerate(world.crops)
    ]
    rendered = [render(crop) for crop in shots]
    images = torch.stack([DEMO_PREPROCESSING(one.image) for one in rendered])
    person = torch.from_numpy(np.stack([one.mask for one in rendered])).float()
    with torch.no_grad():
        maps = network.features(images)
        covered = nn.functional.avg_pool2d(person[:, None], 8)[:, 0]
        cells = maps.permute(0, 2, 3, 1)[covered < 0.01]
        second_moment = cells.T @ cells / len(cells)
        size = len(second_moment)
        damping = _DAMPING * second_moment.trace() / size * torch.eye(size)
        weight = network.head.weight
        weight.copy_(weight @ torch.linalg.inv(second_moment + damping) @ damping)
    return network


def robust_model() -> EmbeddingModel:
    """The network without the shortcut as a model."""
    return EmbeddingModel(robust_network(), DEMO_PREPROCESSING, name="robust")


def walled_crops(folder: Path, seed: int = 51) -> fo.Dataset:
    """108 crops of 18 identities, four of them always before the striking wall.

    The field ``scene`` has masks of person, wall and ground, ``person`` of the person.
    """
    import fiftyone as fo

    world = generate_world(
        seed,
        identities=18,
        images_per_identity=6,
        defects=DefectPlan(0, 0, 0, 0, 4),
    )
    samples = []
    for crop in world.crops:
        one = render(crop)
        path = folder / f"{crop.crop_id}.png"
        one.image.save(path)
        height = len(one.mask)
        floor = _FEET - _FLOOR * crop.shot.scale
        below = (np.arange(height) + 0.5)[:, None] / height > floor
        mask = np.where(one.mask, 1, np.where(below, 3, 2)).astype(np.uint8)
        samples.append(
            fo.Sample(
                filepath=str(path),
                identity=crop.identity,
                camera=crop.camera,
                view=crop.shot.pose.view,
                striking=crop.shot.scene == STRIKING_SCENE,
                scene=fo.Segmentation(mask=mask),
                person=fo.Segmentation(mask=one.mask.astype(np.uint8)),
            )
        )
    dataset = fo.Dataset(f"sfam-walled-{uuid.uuid4().hex[:8]}")
    dataset.add_samples(samples, progress=False)
    dataset.mask_targets = {
        "scene": {1: "person", 2: "wall", 3: "ground"},
        "person": {1: "person"},
    }
    dataset.save()
    return dataset
