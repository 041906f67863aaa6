"""Layer and kinds of map that are chosen by measurement before a run."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import fiftyone as fo
import pytest
import torch
from torch import nn

from fiftyone_sfam import explain_pairs, explain_retrieval, load_run
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.pipeline import choosing
from fiftyone_sfam.pipeline.choosing import Choice
from map_check_support import LooksAtACorner, blobs, dataset_of, explained, model_of


class LosesThePlace(nn.Module):
    """The map at ``early`` is right, the one at ``map`` is displaced."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.early = nn.Conv2d(3, 8, 2, stride=2)
        self.late = nn.Conv2d(8, 8, 2, stride=2)
        self.map = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mask = torch.full_like(images, 0.03)
        mask[:, :, :12, :12] = 1
        maps = self.late(self.early(images * mask))
        return self.map(maps.roll((3, 3), (2, 3))).flatten(1)


@pytest.fixture
def corners(tmp_path) -> Iterator[fo.Dataset]:
    dataset = dataset_of(tmp_path, blobs)
    yield dataset
    dataset.delete()


def test_the_layer_that_is_right_is_chosen(corners):
    run = explained(corners, model_of(LosesThePlace()), layer="auto")
    assert run.config.layer == "early"
    assert run.config.kinds == ("sfam", "evidence")
    choice = Choice.of(run.config.chosen)
    assert (choice.layer, choice.kinds, choice.asked) == ("early", None, ("layer",))
    assert choice.pairs == 24
    right, wrong = (choice.figures[f"evidence at {at}"] for at in ("early", "map"))
    assert right[1] > 0 > wrong[2]
    assert run.summary()["chosen"] == (
        "Chosen by measurement on 24 pairs: layer 'early' (insertion minus deletion "
        f"{right[0]:.3f}; evidence at map {wrong[0]:.3f})."
    )
    # The same maps as of a run that is given the layer.
    given = explained(corners, model_of(LosesThePlace()), key="given", layer="early")
    assert given.config.chosen is None
    for pair in (0, 7):
        mine, other = (one.maps(pair).query.maps for one in (run, given))
        assert (mine["evidence"] == other["evidence"]).all()


def test_the_models_own_layer_is_kept_if_no_other_is_better(corners):
    run = explained(corners, model_of(LooksAtACorner()), layer="auto", kinds="auto")
    assert run.config.layer == "map"
    assert run.config.chosen["layer"] is None
    assert "layer 'map' (" in run.summary()["chosen"]


def test_kinds_are_chosen(corners):
    """At the one layer all maps are displaced, and those along paths are not."""
    model = model_of(LooksAtACorner(displaced=3))
    run = explained(corners, model, kinds="auto")
    first, *others = run.config.kinds
    assert first in ("path", "scales")
    assert others == ["evidence", "sfam"]
    assert run.config.path_pairs == "rank1"
    figures = Choice.of(run.config.chosen).figures
    assert figures[first][1] > figures["evidence at map"][2]
    assert figures[first][0] >= max(figures[kind][0] for kind in ("path", "scales"))


def test_a_resumed_run_keeps_its_choice(corners, monkeypatch):
    def stop(done, total, phase):
        if phase == "explaining":
            raise KeyboardInterrupt

    model = model_of(LosesThePlace())
    options = {"layer": "auto", "kinds": "auto", "batch_size": 8}
    with pytest.raises(KeyboardInterrupt):
        explained(corners, model, progress=stop, **options)

    def measured_again(*_):
        raise AssertionError("the choice was measured again")

    with monkeypatch.context() as patch:
        patch.setattr(choosing._Choosing, "choice", measured_again)
        resumed = explained(corners, model, **options)
        assert resumed.config.layer == "early"
        # So does an update, and it finds that nothing has changed.
        options = {"overwrite": False, "update": True, **options}
        same = explained(corners, model, **options)
        assert same.config == load_run(corners, "sfam").config == resumed.config
        corners.delete_samples(corners.limit(1))
        updated = explained(corners, model, **options)
        assert len(updated.items) == 29
        assert updated.config.chosen == resumed.config.chosen
    fresh = explain_retrieval(
        corners, model, key="fresh", **options | {"update": False}
    )
    assert Choice.of(fresh.config.chosen).layer == "early"


def test_an_update_of_a_run_without_a_choice_is_refused(corners):
    model = model_of(LooksAtACorner())
    explained(corners, model)
    with pytest.raises(RunError, match="was not made with kinds='auto', so an update"):
        explained(corners, model, kinds="auto", update=True, overwrite=False)
    assert load_run(corners, "sfam").config.chosen is None


def test_kinds_are_chosen_for_a_list_of_pairs(corners):
    model, files = model_of(LooksAtACorner(displaced=3)), corners.values("filepath")
    rows = list(pairwise(files))
    run = explain_pairs(corners, model, rows, kinds="auto")
    assert run.config.kinds[0] in ("path", "scales")
    assert run.config.chosen["pairs"] == 24  # Of 29, in eights.
    few = explain_pairs(corners, model, rows[:15], key="few", kinds="auto")
    assert (few.config.kinds, few.config.layer) == (("sfam", "evidence"), "map")
    assert few.summary()["chosen"] == (
        "Nothing was chosen by measurement: 8 pairs could be masked, and 16 are "
        "needed; these are the defaults."
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kinds": ["auto", "sfam"]}, DataError, "or give 'auto' alone"),
        ({"kinds": "best"}, DataError, "kinds is .'best'., which not every pair has"),
        ({"check": 5}, DataError, "check is 5; give True or False."),
        ({"layer": ""}, DataError, "layer is ''; give the name of a module, or 'auto'"),
        ({"layer": "nowhere"}, ModelError, "nowhere"),
    ],
)
def test_bad_options_get_one_sentence(corners, options, error, message):
    with pytest.raises(error, match=message):
        explained(corners, model_of(LooksAtACorner()), **options)
    assert not corners.list_runs()


def test_what_the_choice_costs(corners):
    class Counting(LosesThePlace):
        passes = 0

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            self.passes += len(images)
            return super().forward(images)

    network = Counting()
    model = model_of(network)
    explained(corners, model, check=False)
    plain, network.passes = network.passes, 0
    run = explained(corners, model, layer="auto", check=False)
    chosen = network.passes - plain
    # Of each pair: the hidden image, two passes for each of two maps at two layers and
    # of the three baselines, and the layers themselves; and the sample's embeddings.
    assert chosen <= run.config.chosen["pairs"] * (1 + 2 * (2 * 2 + 3) + 3) + 30 + 100
