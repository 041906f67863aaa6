"""A run's check of its own maps, on networks whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, check_faithfulness, load_model, load_run, rename_run
from fiftyone_sfam.audit.faithfulness.sample import check_stored_maps, passes_per_query
from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.pipeline.measuring import passes_of
from fiftyone_sfam.runs.map_check import KindCheck, MapCheck
from fiftyone_sfam.runs.run_config import record_run
from map_check_support import (
    LooksAtACorner,
    LooksAtTheMiddle,
    blobs,
    dataset_of,
    explained,
    model_of,
    one_color,
)

ENOUGH = 10_000


@pytest.fixture
def corners(tmp_path: Path) -> Iterator[fo.Dataset]:
    dataset = dataset_of(tmp_path, blobs)
    yield dataset
    dataset.delete()


def test_maps_of_the_corner_are_better_than_the_middle(corners):
    model = model_of(LooksAtACorner())
    run = explained(corners, model, kinds=["evidence"])
    check = check_stored_maps(run, model, ENOUGH)
    (evidence,) = check.kinds
    assert check.pairs == check.queries == 24  # Of 30, in eights.
    assert evidence.beside_center == "better"
    assert 1.5 < evidence.chance[0] < 2
    assert check.sentence == (
        f"Maps of kind evidence find what matters {evidence.chance[0]:.2f} x better "
        f"than chance (95 % interval {evidence.chance[1]:.2f} to "
        f"{evidence.chance[2]:.2f}); better than a blob in the middle of the image "
        "(24 pairs)."
    )
    assert not check.is_caution


def test_displaced_maps_get_the_warning(corners):
    model = model_of(LooksAtACorner(displaced=3))
    run = explained(corners, model, kinds=["evidence"])
    check = check_stored_maps(run, model, ENOUGH)
    (evidence,) = check.kinds
    assert evidence.chance[2] < 1
    assert evidence.gain[2] < 0
    assert check.is_caution
    assert "are worse than chance" in check.sentence
    assert "no better than a blob in the middle of the image on this" in check.sentence


def test_maps_that_are_the_centre_prior_are_no_better(tmp_path):
    dataset = dataset_of(tmp_path, one_color, 8)
    model = model_of(LooksAtTheMiddle(), mean=0)
    run = explained(dataset, model, kinds=["evidence"], map_dtype="float32")
    check = check_stored_maps(run, model, ENOUGH)
    assert check.kinds[0].gain == (0, 0, 0)
    assert check.kinds[0].center > 0
    assert check.kinds[0].beside_center == "no better"
    dataset.delete()


def test_the_demo_people_have_one_verdict_whatever_the_sample(crops):
    run = explained(crops, "demo", key="demo", kinds=["evidence", "sfam"])
    model, passes = load_model("demo"), 16 * passes_per_query(2) * 20
    checks = [check_stored_maps(run, model, passes, seed=seed) for seed in range(5)]
    assert {check.queries for check in checks} == {16}
    assert len({check.kinds[0].gain for check in checks}) == 5
    for check in checks:
        assert check.kinds[0].chance[1] > 1
    # The full check finds them better, with an interval from 0.04 to 0.07.
    states = [check.kinds[0].beside_center for check in checks]
    assert set(states) <= {"better", "uncertain"}
    assert states.count("better") >= 3
    assert check_stored_maps(run, model, passes, seed=0) == checks[0]


def test_small_runs_say_that_they_were_not_measured(corners):
    run = explained(corners, model_of(LooksAtACorner()))
    assert run.map_check.kinds == ()
    # 16 queries of 12 passes are a twentieth of 3,840.
    assert passes_per_query(2) == 12
    sentence = (
        "These maps were not measured: a run of 30 passes through the network is too "
        "small for it, which takes 5 % of them: 3,840 are needed; check_faithfulness, "
        "or fiftyone-sfam faithfulness, measures them."
    )
    assert run.summary()["maps"] == sentence
    assert run.warnings == ()
    assert load_run(corners, "sfam").map_check == run.map_check
    run = explained(corners, model_of(LooksAtACorner()), check=False)
    assert "not measured: check=False was given; " in run.summary()["maps"]
    assert check_stored_maps(run, model_of(LooksAtACorner()), 3840).queries == 16
    assert check_stored_maps(run, model_of(LooksAtACorner()), 3839).queries == 0


def test_a_run_measures_its_maps(corners):
    """Maps along paths are passes enough."""
    model = model_of(LooksAtACorner(displaced=3))
    options = {"kinds": ["evidence", "path"], "path_pairs": "all", "k": 9}
    with pytest.warns(SfamWarning, match="'path' is better here"):
        run = explained(corners, model, **options)
    assert passes_of(run) == 30 + 3 * 4 * 2 * len(run.pairs)
    check = run.map_check
    affordable = passes_of(run) * 0.05 // passes_per_query(2)
    assert (check.queries, check.best) == (affordable // 8 * 8, "path")
    assert [of.kind for of in check.kinds] == ["evidence", "path"]
    assert check.kinds[1].beside_center == "better"
    assert run.warnings == (check.sentence,) == (run.summary()["maps"],)
    assert MapCheck.of(check.to_dict()) == check
    assert load_run(corners, "sfam").map_check == check


def test_the_full_check_takes_its_place(corners):
    model = model_of(LooksAtACorner(displaced=3))
    run = explained(corners, model, kinds=["evidence", "sfam"])
    check_faithfulness(run, model, 60, steps=2, fill="blur")
    assert run.map_check.kinds == ()  # One fill decides nothing.
    check_faithfulness(run, model, 12, steps=2)
    assert run.map_check.kinds == ()  # So do a few queries.
    result = check_faithfulness(run, model, 60, steps=2)
    check = load_run(corners, "sfam").map_check
    assert check == run.map_check
    assert [of.kind for of in check.kinds] == ["evidence", "sfam"]
    assert check.queries == len(np.unique(result.queries)) == 30
    assert check.kinds[0].center == result.figures_of("centre prior").margin.value
    assert check.is_caution
    description = "evidence map towards the nearest neighbor; one range for the run"
    note = "no better than a blob in the middle of the image on this model"
    assert corners.get_field("sfam").description == f"{description}; {note}"
    # An update keeps it, and so does another key; new maps have another check.
    corners.delete_samples(corners.limit(1))
    options = {"overwrite": False, "update": True, "kinds": ["evidence", "sfam"]}
    with pytest.warns(SfamWarning, match="read them with care"):
        assert explained(corners, model, **options).map_check == check
    assert corners.get_field("sfam").description.endswith(note)
    rename_run(corners, "sfam", "moved")
    assert load_run(corners, "moved").map_check == check
    assert corners.get_field("moved").description.endswith(note)
    fresh = explained(corners, model, key="moved", kinds=["evidence"])
    assert fresh.map_check.kinds == ()
    assert corners.get_field("moved").description == description


def test_detections_are_measured_like_images(corners):
    model = model_of(LooksAtACorner())
    whole = explained(corners, model, kinds=["evidence"])
    for sample in corners.iter_samples(autosave=True):
        box = fo.Detection(label=sample.identity, bounding_box=[0, 0, 1, 1])
        sample["parts"] = fo.Detections(detections=[box])
    options = {"patches_field": "parts", "protocol": Protocol("label"), "key": "parts_"}
    parts = explained(corners, model, kinds=["evidence"], **options)
    of_images, of_parts = (check_stored_maps(r, model, ENOUGH) for r in (whole, parts))
    assert of_parts.kinds == of_images.kinds
    chosen = explained(corners, model, kinds="auto", **options)
    assert chosen.config.chosen["pairs"] == 24


def test_records_of_earlier_versions_have_no_check(corners):
    run = explained(corners, model_of(LooksAtACorner()))
    record_run(corners, "sfam", replace(run.config, map_check=None))
    old = load_run(corners, "sfam")
    assert (old.map_check, old.warnings) == (None, ())
    assert "maps" not in old.summary()


@pytest.mark.parametrize(
    ("gain", "state"),
    [
        ((0.3, 0.1, 0.5), "better"),
        ((0.0, -0.1, 0.01), "no better"),  # up to a twentieth of the centre prior
        ((0.0, -0.1, 0.011), "uncertain"),
        ((-0.3, -0.5, -0.1), "no better"),
    ],
)
def test_a_wide_interval_is_not_a_claim(gain, state):
    kind = KindCheck(kind="sfam", chance=(1.5, 1.2, 1.8), gain=gain, center=0.2)
    check = MapCheck(kinds=(kind,), pairs=16, queries=16)
    assert kind.beside_center == state
    assert check.is_caution == (state == "no better")
    assert ("not certain" in check.sentence) == (state == "uncertain")
    assert bool(check.note_of("sfam")) == check.is_caution
