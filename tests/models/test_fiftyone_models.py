"""Models of FiftyOne's own classes give the embeddings that FiftyOne stores."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image

import fiftyone_zoo as zoo
from fiftyone_sfam.errors import ModelError, SfamWarning
from fiftyone_sfam.models import load_model
from fiftyone_sfam.models.fiftyone_models import from_fiftyone_model
from fiftyone_sfam.models.processors import ProcessorPreprocessing

Make = Callable[..., zoo.Deployment]

FAMILIES: dict[str, Make] = {
    "clip": zoo.clip,
    "open_clip": zoo.open_clip,
    "siglip": zoo.siglip,
    "transformers_clip": zoo.transformers_clip,
    "dinov2": zoo.dinov2,
    "dinov2_reg": lambda folder: zoo.dinov2(folder, registers=4),
    "dinov3": zoo.dinov3,
    "vit": zoo.vit,
    "convnext": zoo.convnext,
    "convnext_mean": lambda f: zoo.convnext(f, embeddings_aggregation="mean"),
    "efficientnet": zoo.efficientnet,
    "swin": zoo.swin,
    "swin_mean": lambda f: zoo.swin(f, embeddings_aggregation="mean"),
    "vit_max": lambda f: zoo.vit(f, embeddings_aggregation="max"),
    "vit_hidden": lambda f: zoo.vit(f, hidden_state_position=1),
    "vit_last_token": lambda f: zoo.vit(f, embeddings_token_position=-1),
    "dinov3_state": lambda f: zoo.dinov3(f, embeddings_output_key="last_hidden_state"),
}
SIZES = {"clip": 24, "open_clip": 24, "transformers_clip": 24, "convnext": 4}
SIZES |= {"efficientnet": 4}


@pytest.fixture(autouse=True)
def keep_model_folder() -> Iterator[None]:
    before = fo.config.model_zoo_dir
    yield
    fo.config.model_zoo_dir = before


def wrapped(theirs: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SfamWarning)
        return from_fiftyone_model(theirs)


def at_one_size(dataset: fo.Dataset, folder: Path, count: int = 3) -> fo.Dataset:
    for seed in range(count):
        file = folder / f"{seed}.png"
        zoo.picture(seed).save(file)
        dataset.add_sample(fo.Sample(str(file)))
    return dataset


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_are_those_that_fiftyone_computes(
    family: str, make_dataset: Callable[..., fo.Dataset], tmp_path: Path
) -> None:
    theirs = zoo.load(FAMILIES[family](tmp_path / "model"))
    dataset = at_one_size(make_dataset(), tmp_path)
    stored = dataset.compute_embeddings(theirs, batch_size=2, num_workers=0)
    stored = np.reshape(stored, (3, -1))
    ours = wrapped(theirs)
    images = []
    for sample in dataset:
        with Image.open(sample.filepath) as image:
            images.append(ours.prepare(image))
    found = ours.embed(torch.stack(images)).numpy()
    assert found.shape == (3, SIZES.get(family.removesuffix("_mean"), found.shape[1]))
    np.testing.assert_allclose(found, stored, rtol=1e-5, atol=1e-5)
    # Different images have different embeddings, so the test can fail.
    assert np.abs(found[0] - found[1]).max() > 1e-3 * np.abs(found).max()
