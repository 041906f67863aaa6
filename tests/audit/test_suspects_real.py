"""Suspects among real faces: labels that were exchanged, and one that was wrong."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import average_precision_score

from fiftyone_sfam.audit.suspects.measures import measure
from fiftyone_sfam.retrieval.search import UNKNOWN

NETWORK = "mobilefacenet"


@pytest.fixture(scope="module")
def faces(assets_dir: Path) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of aligned chips, and the code of each one's identity."""
    path = assets_dir / "reference_models.py"
    spec = importlib.util.spec_from_file_location("reference_models", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("reference_models", module)
    spec.loader.exec_module(module)
    network = module.load_reference_model(NETWORK, assets_dir)
    folder = assets_dir / "data" / module.REFERENCE_MODELS[NETWORK].data_folder
    paths = sorted(folder.rglob("*.jpg"))
    images = []
    for path in paths:
        with Image.open(path) as opened:
            images.append(network.preprocess(opened.convert("RGB")))
    with torch.no_grad():
        parts = [network(part) for part in torch.stack(images).split(32)]
    _, labels = np.unique([path.parent.name for path in paths], return_inverse=True)
    return torch.cat(parts).numpy(), labels


def test_one_label_is_wrong_as_the_data_are(
    faces: tuple[np.ndarray, np.ndarray],
) -> None:
    """A known error of LFW is among the images, and nothing else is suspected."""
    embeddings, labels = faces
    found = measure(embeddings, "cosine", labels, np.full(len(labels), UNKNOWN))
    [wrong] = np.flatnonzero(found.mislabeled() >= 0)
    assert found.figures.images.mislabel[wrong] > 20
    assert not (found.one_person() >= 0).any()
    # The identity that it was given is the likeliest to be two persons.
    odds = found.two_persons()
    assert found.figures.divisions[int(np.argmax(odds))].identity == labels[wrong]
    assert (odds >= 0).sum() <= 2


def test_corrupted_labels_come_first(faces: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, labels = faces
    precisions = []
    for seed in range(3):
        generator = np.random.default_rng(seed)
        given, corrupted = labels.copy(), np.zeros(len(labels), dtype=bool)
        corrupted[generator.choice(len(labels), 16, replace=False)] = True
        for image in np.flatnonzero(corrupted):
            others = np.delete(np.arange(labels.max() + 1), labels[image])
            given[image] = generator.choice(others)
        found = measure(embeddings, "cosine", given, np.full(len(labels), UNKNOWN))
        precisions.append(
            average_precision_score(corrupted, found.figures.images.mislabel)
        )
        flagged = found.mislabeled() >= 0
        assert flagged[corrupted].mean() > 0.85
        assert corrupted[flagged].mean() > 0.9
    assert np.mean(precisions) > 0.9


def test_half_of_an_identity_under_a_new_name_is_one_person(
    faces: tuple[np.ndarray, np.ndarray],
) -> None:
    embeddings, labels = faces
    count = int(labels.max()) + 1
    given = labels.copy()
    split = range(0, 20, 4)
    for number, person in enumerate(split):
        given[np.flatnonzero(labels == person)[::2]] = count + number
    found = measure(embeddings, "cosine", given, np.full(len(labels), UNKNOWN))
    codes = found.figures.pairs.codes
    pairs = {(one, other) for one, other in codes[found.one_person() >= 0].tolist()}
    planted = {(person, count + number) for number, person in enumerate(split)}
    assert pairs <= planted
    assert len(pairs) >= 4


def test_two_identities_under_one_name_are_two_persons(
    faces: tuple[np.ndarray, np.ndarray],
) -> None:
    embeddings, labels = faces
    given = labels.copy()
    for person in range(0, 10, 2):
        given[labels == person + 1] = person
    _, given = np.unique(given, return_inverse=True)
    found = measure(embeddings, "cosine", given, np.full(len(labels), UNKNOWN))
    odds = found.two_persons()
    order = np.argsort(-odds)
    divided = [found.figures.divisions[row].identity for row in order]
    planted = {int(given[labels == person][0]) for person in range(0, 10, 2)}
    assert set(divided[:5]) == planted
    assert (odds[order[:4]] >= 0).all()
    assert (odds >= 0).sum() <= 6
