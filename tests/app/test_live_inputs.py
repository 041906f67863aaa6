"""Live maps of a model with further inputs, which come from fields."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import explain_pair, explain_path, explain_retrieval, load_model
from fiftyone_sfam.app.operators.explain_selected import ExplainSelected
from fiftyone_sfam.app.pairs.live import live_pair
from fiftyone_sfam.app.pairs.pictures import image_file
from fiftyone_sfam.attribution.pair import PairExplanation
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.runs.images import item_inputs
from fiftyone_sfam.runs.run import Run
from operator_support import context
from pairs_component import PairsComponent, decode
from paths import TESTS
from worlds import HEIGHT, REID, WIDTH, fill, fill_frames

NETWORK = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
import torch
from networks import SideInformation

def build():
    torch.manual_seed(0)
    return SideInformation()
"""
CAMERAS = np.arange(12) % 3
HOURS = 1 + np.arange(12) / 12


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EmbeddingModel:
    (tmp_path / "sie.py").write_text(NETWORK)
    entry = {
        "factory": "sie.py:build",
        "preprocess": {"size": [HEIGHT, WIDTH]},
        "inputs": {"cam_label": "camera_index", "hour": "time"},
    }
    file = tmp_path / "models.json"
    file.write_text(json.dumps({"models": {"sie": entry}}))
    monkeypatch.setenv("FIFTYONE_SFAM_MODELS", str(file))
    return load_model("sie")


@pytest.fixture
def run(dataset: fo.Dataset, tmp_path: Path, model: EmbeddingModel) -> Run:
    fill(dataset, tmp_path)
    dataset.set_values("camera_index", CAMERAS.tolist())
    dataset.set_values("time", HOURS.tolist())
    return explain_retrieval(dataset, model, k=3, protocol=REID, map_dtype="float32")


def test_live_maps_are_the_stored_ones(run: Run) -> None:
    item = 4
    paths = run.dataset.values("filepath")

    def explained(pair: int) -> PairExplanation:
        items = item, int(run.pairs.gallery[pair])
        files = image_file(paths[item]), image_file(paths[items[1]])
        return live_pair(run, files, partial(item_inputs, run, items))

    for pair in run.pairs.of_query(item).tolist():
        now, maps = explained(pair), run.maps(pair)
        assert now.score == pytest.approx(run.pairs.similarity[pair], abs=1e-6)
        for found, stored in ((now.query, maps.query), (now.gallery, maps.gallery)):
            assert stored is not None
            for kind in ("sfam", "evidence"):
                gap = np.abs(getattr(found, kind) - stored.maps[kind]).max()
                assert gap <= 1e-5 * np.abs(stored.maps[kind]).max()
    # What was computed is not computed again, unless a field changes.
    assert explained(pair) is now
    run.dataset.set_values("camera_index", ((CAMERAS + 1) % 3).tolist())
    before, after = now.query.evidence, explained(pair).query.evidence
    assert np.abs(before - after).max() > 0.01 * np.abs(before).max()


def shown(side: dict[str, Any], kind: str) -> np.ndarray:
    return decode(side["maps"][kind])


def test_the_panel_reads_the_fields(run: Run, model: EmbeddingModel) -> None:
    item = 7
    pair = int(run.pairs.of_query(item)[1])
    component = PairsComponent(run.dataset)
    found = component.ask("live", pair=pair, kind="difference")
    assert found["notes"] == []
    samples = list(run.dataset)
    both = samples[item], samples[int(run.pairs.gallery[pair])]
    query, gallery = explain_pair(model, *both).difference()
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-6)
    close(shown(found["query_side"], "difference"), query.evidence)
    close(shown(found["neighbor_side"], "difference"), -gallery.evidence)
    channels = component.ask("channels", pair=pair)["channels"]
    importance = explain_pair(model, *both).query.cis
    assert channels[0]["value"] == pytest.approx(
        importance[np.abs(importance).argmax()], abs=1e-6
    )
    found = component.ask("live", pair=pair, kind="scales")
    one, two = explain_path(model, *both, several_scales=True)
    close(shown(found["query_side"], "scales"), one.path)
    close(shown(found["neighbor_side"], "scales"), two.path)
    assert found["notes"] == []
    points = component.ask("correspondences", pair=pair)
    assert points["similarity"] == pytest.approx(run.pairs.similarity[pair], abs=1e-6)
    run.dataset.set_values("camera_index", ((CAMERAS + 1) % 3).tolist())
    for kind in ("difference", "scales"):
        [note] = component.ask("live", pair=pair, kind=kind)["notes"]
        assert "an image, a field that the model reads or the preprocessing" in note
    [note] = component.ask("correspondences", pair=pair)["notes"]
    assert "an image, a field that the model reads or the preprocessing" in note
    run.dataset.set_values("time", [None] * 12)
    for question in ({"kind": "difference"}, {"kind": "scales"}):
        note = component.problem("live", pair=pair, **question)
        assert "he field 'time', which holds the argument 'hour' of the model" in note
    # What was stored can still be looked at.
    assert component.ask("query", pair=pair)["neighbors"][1]["pair"] == pair


def test_two_selected_samples(run: Run, model: EmbeddingModel) -> None:
    samples = list(run.dataset)
    first, second = samples[5], samples[3]
    expected = explain_pair(model, first, second)
    ids = [first.id, second.id]
    ctx = context(run.dataset, {"model": "sie", "kind": "evidence"}, selected=ids)
    result = ExplainSelected().execute(ctx)
    assert result["similarity"] == pytest.approx(expected.score, abs=1e-6)
    np.testing.assert_allclose(result["query_map"], expected.query.evidence, atol=1e-6)
    component = PairsComponent(run.dataset)
    for source in ({"run": None, "model": "sie"}, {}):
        answer = component.ask("selected", samples=ids, **source)
        [neighbor] = answer["query"]["neighbors"]
        assert neighbor["similarity"] == pytest.approx(expected.score, abs=1e-6)
        np.testing.assert_allclose(
            shown(neighbor["neighbor_side"], "evidence"),
            expected.gallery.evidence,
            rtol=1e-3,
            atol=1e-6,
        )
    run.dataset.set_values("camera_index", [9] * 5 + [None] + [9] * 6)
    with pytest.raises(
        DataError, match=r"'camera_index'.* has no value for .*1-2\.png"
    ):
        ExplainSelected().execute(ctx)


def test_two_selected_patches(
    dataset: fo.Dataset, tmp_path: Path, model: EmbeddingModel
) -> None:
    fill_frames(dataset, tmp_path)
    dataset.set_values("time", [1.0, 1.5, 2.0, 2.5])
    dataset.set_values("camera_index", [9] * 4)
    for sample in dataset:
        for number, detection in enumerate(sample.people.detections):
            detection["camera_index"] = number
        sample.save()
    protocol = Protocol(identity_field="label")
    run = explain_retrieval(
        dataset, model, k=2, protocol=protocol, patches_field="people"
    )
    pair = int(run.pairs.of_query(5)[0])
    labels = run.items.label_ids
    assert labels is not None
    ids = [str(labels[end[pair]]) for end in (run.pairs.query, run.pairs.gallery)]
    patches = dataset.to_patches("people")
    ctx = context(dataset, {"model": "sie"}, view=patches._serialize(), selected=ids)
    found = ExplainSelected().execute(ctx)["similarity"]
    assert found == pytest.approx(run.pairs.similarity[pair], abs=1e-6)


def test_values_given_by_hand(run: Run, model: EmbeddingModel) -> None:
    samples = list(run.dataset)[:2]
    expected = explain_pair(model, *samples)
    paths = [sample.filepath for sample in samples]
    with pytest.raises(DataError, match="which str has not; give FiftyOne samples"):
        explain_pair(model, *paths)
    given = model.with_inputs({"cam_label": CAMERAS[:2], "hour": HOURS[:2]})
    found = explain_pair(given, *paths)
    assert found.score == pytest.approx(expected.score, abs=1e-6)
    other = model.with_inputs({"cam_label": [1, 1], "hour": HOURS[:2]})
    assert abs(explain_pair(other, *paths).score - expected.score) > 1e-4
