"""A run's check of its own maps, on networks whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator

import fiftyone as fo
import pytest

from fiftyone_sfam import (
    load_run,
)
from fiftyone_sfam.audit.faithfulness.sample import check_stored_maps, passes_per_query
from fiftyone_sfam.errors import SfamWarning
from fiftyone_sfam.pipeline.measuring import passes_of
from fiftyone_sfam.runs.map_check import KindCheck, MapCheck
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


@pytest.fixture(scope="module")
def corners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    dataset = dataset_of(tmp_path_factory.mktemp("corners"), blobs)
    yield dataset
    dataset.delete()


def test_maps_of_the_corner_are_better_than_the_middle(corners):
    model = model_of(LooksAtACorner())
    run = explained(corners, model, kinds=["evidence"])
    check = check_stored_maps(run, model, ENOUGH)
    (evidence,) = check.kinds
    assert check.pairs == check.queries == 28  # Of 30, in fours.
    assert evidence.beside_center == "better"
    assert 1.5 < evidence.chance[0] < 2
    assert check.sentence == (
        f"Maps of kind evidence find what matters {evidence.chance[0]:.2f} x better "
        f"than chance (95 % interval {evidence.chance[1]:.2f} to "
        f"{evidence.chance[2]:.2f}); better than a blob in the middle of the image "
        "(28 pairs)."
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


def test_small_runs_say_that_they_were_not_measured(corners):
    run = explained(corners, model_of(LooksAtACorner()))
    assert run.map_check.kinds == ()
    # 16 queries of 13 passes are a twentieth of 4,160.
    assert passes_per_query(2) == 13
    sentence = (
        "These maps were not measured: a run of 30 passes through the network is too "
        "small for it, which takes 5% of them and at least 4,160; check_faithfulness, "
        "or fiftyone-sfam faithfulness, measures them."
    )
    assert run.summary()["maps"] == sentence
    assert run.warnings == ()
    assert load_run(corners, "sfam").map_check == run.map_check
    run = explained(corners, model_of(LooksAtACorner()), check=False)
    assert "not measured: check=False was given; " in run.summary()["maps"]
    assert check_stored_maps(run, model_of(LooksAtACorner()), 4160).queries == 16
    assert check_stored_maps(run, model_of(LooksAtACorner()), 4159).queries == 0


def test_a_run_measures_its_maps(corners):
    """Maps along paths are passes enough."""
    model = model_of(LooksAtACorner(displaced=3))
    options = {"kinds": ["evidence", "path"], "path_pairs": "all", "k": 9}
    with pytest.warns(SfamWarning, match="'path' is better here"):
        run = explained(corners, model, **options)
    assert passes_of(run) == 30 + 3 * 4 * 2 * len(run.pairs)
    check = run.map_check
    affordable = passes_of(run) * 0.05 // passes_per_query(2)
    assert (check.queries, check.best) == (affordable // 4 * 4, "path")
    assert [of.kind for of in check.kinds] == ["evidence", "path"]
    assert check.kinds[1].beside_center == "better"
    assert run.warnings == (check.sentence,) == (run.summary()["maps"],)
    assert MapCheck.of(check.to_dict()) == check
    assert load_run(corners, "sfam").map_check == check


@pytest.mark.parametrize(
    ("gain", "state"),
    [
        ((0.3, 0.1, 0.5), "better"),
        ((0.0, -0.1, 0.02), "no better"),  # up to a tenth of the centre prior
        ((0.0, -0.1, 0.021), "uncertain"),
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
