"""Comparisons worked out by hand: three queries, and models that see half an image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fiftyone_sfam import (
    Protocol,
    Run,
    compare_runs,
    delete_run,
    explain_retrieval,
    load_comparison,
    load_run,
    rename_run,
)
from fiftyone_sfam.audit.comparison.display import (
    bands,
    counts_table,
    notes,
    ranks_figure,
    sentences,
)
from fiftyone_sfam.audit.comparison.groups import compare_groups
from fiftyone_sfam.audit.comparison.result import Comparison, load_comparisons
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.network.embedder import EmbeddingModel
from fiftyone_sfam.network.preprocess import Preprocessing
from fiftyone_sfam.runs.results import ResultStore
from worlds import small_frames

SIDE = 8
PROTOCOL = Protocol("identity", split_field="split")
# Identity, split, and the angles that the first and the second model see, in degrees.
IMAGES = (
    ("a", "query", 12, 38),
    ("b", "query", 55, 41),
    ("c", "query", 78, 79),
    ("a", "gallery", 10, 10),
    ("b", "gallery", 40, 40),
    ("c", "gallery", 80, 80),
    ("a", "gallery", 60, 15),
)


class Half(nn.Module):
    """Averages red and green over the upper or the lower half: maps of 2 x 2."""

    def __init__(self, row: int) -> None:
        super().__init__()
        self.row = row
        self.maps = nn.Conv2d(3, 2, SIDE // 2, stride=SIDE // 2, bias=False)
        with torch.no_grad():
            self.maps.weight.zero_()
            for color in range(2):
                self.maps.weight[color, color] = 4 / SIDE**2

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.maps(images)[:, :, self.row].mean(2)


def half_model(row: int) -> EmbeddingModel:
    preprocess = Preprocessing(size=(SIDE, SIDE))
    return EmbeddingModel(Half(row).eval(), preprocess, name=("upper", "lower")[row])


def fill_halves(dataset: fo.Dataset, folder: Path) -> None:
    """Add images whose halves have the direction of an angle as red and green."""
    samples = []
    for place, (identity, split, *angles) in enumerate(IMAGES):
        pixels = np.zeros((SIDE, SIDE, 3))
        for row, angle in enumerate(np.deg2rad(angles)):
            part = pixels[row * SIDE // 2 : (row + 1) * SIDE // 2]
            part[:, :, :2] = 255 * np.cos(angle), 255 * np.sin(angle)
        path = folder / f"{place}.png"
        Image.fromarray(np.rint(pixels).astype(np.uint8)).save(path)
        samples.append(fo.Sample(str(path), identity=identity, split=split))
    dataset.add_samples(samples)


def run_half(samples: object, row: int, **options: object) -> Run:
    return explain_retrieval(
        samples,
        half_model(row),
        **{
            "key": ("upper", "lower")[row],
            "k": 4,
            "protocol": PROTOCOL,
            "kinds": ["evidence"],
            "map_dtype": "float32",
            **options,
        },
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, Run]]:
    dataset = fo.Dataset()
    fill_halves(dataset, tmp_path_factory.mktemp("halves"))
    yield run_half(dataset, 0), run_half(dataset, 1)
    dataset.delete()


@pytest.fixture(scope="module")
def compared(runs: tuple[Run, Run]) -> Comparison:
    return compare_runs(*runs)


def test_three_queries(compared: Comparison) -> None:
    assert compared.query.tolist() == [[0, 0], [1, 1], [2, 2]]
    # Upper: a ranks 1 and 3, b behind the far a, c first. Lower: a behind b.
    assert compared.first_match.tolist() == [[1, 2], [2, 1], [1, 1]]
    expected = [[5 / 6, 7 / 12], [1 / 2, 1], [1, 1]]
    assert compared.average_precision == pytest.approx(np.array(expected))
    assert compared.gained.tolist() == [1]
    assert compared.lost.tolist() == [0]
    # b changed by 1/2, a by 1/4, c not at all.
    assert compared.changed.tolist() == [1, 0]
    figures = {figure.name: figure for figure in compared.figures}
    assert set(figures) == {"rank-1", "mAP", "equal error rate"}
    rank1, precision = figures["rank-1"], figures["mAP"]
    assert (rank1.first, rank1.second) == pytest.approx((2 / 3, 2 / 3))
    assert rank1.difference.value == pytest.approx(0, abs=1e-12)
    assert precision.first == pytest.approx(7 / 9)
    assert precision.second == pytest.approx(31 / 36)
    assert precision.difference.value == pytest.approx(1 / 12)
    assert precision.difference.low < 0 < precision.difference.high
    # At 18 degrees one of four genuine pairs is refused (48), and two of eight impostor
    # pairs are accepted (5 and 18).
    assert figures["equal error rate"].first == pytest.approx(1 / 4)


def test_the_halves_are_named(runs: tuple[Run, Run], compared: Comparison) -> None:
    places = compared.places
    assert places is not None
    upper = [[0.5, 0.5], [0, 0]]
    assert places.shares == pytest.approx(np.array([upper, upper[::-1]]), abs=1e-6)
    assert places.difference == pytest.approx(
        np.array([[-0.5, -0.5], [0.5, 0.5]]), abs=1e-6
    )
    assert compared.field is None
    assert compared.pairs.shape == (2, 12)
    shares = {one.region: (one.first, one.second) for one in compared.regions}
    assert list(shares)[-1] == "not on the map"
    for region, expected in (
        ("upper third", (2 / 3, 0)),
        ("middle third", (1 / 3, 1 / 3)),
        ("lower third", (0, 2 / 3)),
        ("not on the map", (0, 0)),
    ):
        assert shares[region] == pytest.approx(expected, abs=1e-6)
    # Three queries are too few for an interval.
    assert np.isnan([one.difference.low for one in compared.regions]).all()
    true = compare_runs(*runs, pairs="true", save=False)
    # a's nearest true match is another image in either run, c's is the same.
    columns = [
        run.pairs.gallery[pairs] for run, pairs in zip(runs, true.pairs, strict=True)
    ]
    assert [column.tolist() for column in columns] == [[3, 4, 5], [6, 4, 5]]
    assert true.places is not None
    assert true.places.shares == pytest.approx(places.shares, abs=1e-6)


def test_sentences_and_tables(compared: Comparison) -> None:
    first = sentences(compared)[0]
    assert first.startswith(
        "'lower' is right at rank 1 for 1 query that 'upper' gets wrong, and wrong for "
        "1 that 'upper' gets right, of 3: rank-1 from 66.7 % to 66.7 %, +0.0 ("
    )
    assert "mAP from 77.8 % to 86.1 %, +8.3 (" in first
    counts = [row[1].value for row in counts_table(compared).rows]
    assert counts == [1, 1, 1, 0, 1, 1, 1, 1]
    assert bands(compared).tolist() == [[0, 1], [1, 0], [0, 0]]
    [trace] = ranks_figure(compared).data
    assert trace["customdata"][0] == [1, 1, 0, 0]
    assert trace["customdata"][1] == [1, 0, 0, 0]
    assert any("12 pairs that both runs stored" in line for line in notes(compared))


def test_it_is_stored_until_a_run_is_made_anew(tmp_path: Path) -> None:
    dataset = fo.Dataset()
    fill_halves(dataset, tmp_path)
    first, second = run_half(dataset, 0), run_half(dataset, 1)
    assert load_comparison(first, second) is None
    compared = compare_runs(first, second, resamples=20)
    assert first.results.names() == ["comparison_lower"]
    assert repr(load_comparison(load_run(dataset, "upper"), second)) == repr(compared)
    assert load_comparison(second, first) is None
    # Under a new name it is the same run.
    rename_run(dataset, "lower", "other")
    renamed = load_run(dataset, "other")
    [found] = load_comparisons(first)
    assert (found.first_key, found.second_key) == ("upper", "other")
    compare_runs(first, renamed, resamples=20)
    assert first.results.names() == ["comparison_other"]
    # A run that is computed again is a different run.
    second = run_half(dataset, 1, key="other", k=2, overwrite=True)
    assert load_comparison(first, second) is None
    assert load_comparisons(first) == ()
    again = compare_runs(first, second, resamples=20)
    assert first.results.names() == ["comparison_other"]
    assert again.pairs.shape[1] < compared.pairs.shape[1]
    first.results.delete("comparison_other")
    assert load_comparison(first, second) is None
    compare_runs(first, second, resamples=20)
    delete_run(dataset, "upper")
    uid = first.config.uid
    assert ResultStore(dataset, "upper", uid).names() == []
    assert dataset.list_runs() == ["other"]
    dataset.delete()


def test_runs_over_slightly_different_images(runs: tuple[Run, Run]) -> None:
    dataset = runs[0].dataset
    # Without the far image of a, which is ahead of b in the first model.
    view = dataset.exclude([str(runs[0].items.sample_ids[6])])
    part = run_half(view, 1, key="part")
    compared = compare_runs(runs[0], part, save=False)
    assert (compared.images, compared.only) == (6, (1, 0))
    assert compared.first_match.tolist() == [[1, 2], [1, 1], [1, 1]]
    assert compared.average_precision == pytest.approx(
        np.array([[1, 1 / 2], [1, 1], [1, 1]])
    )
    assert compared.pairs.shape == (2, 9)
    assert "1 image only in 'upper', and left out; 6 are in both." in notes(compared)
    few = dataset.select(runs[0].items.sample_ids[[0, 3]].tolist())
    few = run_half(few, 1, key="few")
    with pytest.raises(DataError, match="share 2 images of 7 and 2; make both runs"):
        compare_runs(runs[0], few)
    for key in ("part", "few"):
        delete_run(dataset, key)


def test_what_cannot_be_compared(runs: tuple[Run, Run], tmp_path: Path) -> None:
    first, second = runs
    dataset = first.dataset
    with pytest.raises(DataError, match="'upper' is one run; name two runs"):
        compare_runs(first, load_run(dataset, "upper"))
    loose = run_half(dataset, 1, key="loose", protocol=Protocol("identity"))
    with pytest.raises(
        DataError, match="different protocols: split_field is 'split' and None"
    ):
        compare_runs(first, loose)
    plain = run_half(dataset, 1, key="plain", kinds=["sfam"])
    with pytest.raises(RunError, match="do not add up to the score"):
        compare_runs(first, plain, regions="scene")
    compared = compare_runs(first, plain, save=False)
    assert compared.regions == ()
    assert compared.places is None
    assert any("a run stores no evidence maps" in line for line in notes(compared))
    sample = dataset.first()
    sample["identity"] = "z"
    sample.save()
    relabeled = run_half(dataset, 1, key="relabeled")
    sample["identity"] = "a"
    sample.save()
    with pytest.raises(
        DataError, match=r"1 image had another identity.*with 'a' and 'z'; make the old"
    ):
        compare_runs(first, relabeled)
    for key in ("loose", "plain", "relabeled"):
        delete_run(dataset, key)
    other = fo.Dataset()
    fill_halves(other, tmp_path)
    with pytest.raises(DataError, match="are of two datasets"):
        compare_runs(first, run_half(other, 1))
    other.delete()
    for settings, message in (
        ({"slices": "split"}, "slices is the text 'split'"),
        ({"slices": ["nose"]}, "no slice field 'nose'"),
        ({"regions": "nose"}, "no field 'nose' of masks"),
        ({"pairs": "all"}, "pairs is 'all'; use one of stored, true"),
        ({"resamples": 0}, "draw at least once"),
        ({"seed": -1}, "seed is -1"),
        ({"fars": [2.0]}, "rate 2.0 is out of range"),
    ):
        with pytest.raises(DataError, match=message):
            compare_runs(first, second, **settings)


def test_a_group_that_changed_comes_first() -> None:
    generator = np.random.default_rng(0)
    size = 240
    names = [f"g{place % 24}" for place in range(size)]
    names[0] = "alone"
    precision = np.stack(
        [generator.uniform(0.4, 0.6, size), generator.uniform(0.4, 0.6, size)], axis=1
    )
    worse = np.flatnonzero([name == "g7" for name in names])
    precision[worse, 1] -= 0.3
    # A single query that changed as much as none of that group.
    precision[0] = 0.9, 0.4
    first_match = np.where(precision > 0.5, 1, 3)
    groups = compare_groups(
        [(name,) for name in names], np.arange(size), precision, first_match
    )
    found = groups[0]
    assert found.value == "g7"
    assert found.queries == len(worse) == 10
    change = precision[:, 1] - precision[:, 0]
    assert found.change == pytest.approx(change[worse].mean())
    assert found.expected == pytest.approx(np.delete(change, worse).mean())
    assert change[0] < found.change - 0.1
    assert found.change - found.expected < found.effect < found.high < 0
    # Of 24 other groups hardly any differs by more than chance.
    assert sum(group.distance > 0 for group in groups) <= 3
    right = first_match == 1
    assert sum(group.gained for group in groups) == (~right[:, 0] & right[:, 1]).sum()
    assert sum(group.lost for group in groups) == (right[:, 0] & ~right[:, 1]).sum()


def test_detections(tmp_path: Path) -> None:
    dataset = small_frames(tmp_path)
    fields = dataset.get_field_schema(ftype=fo.EmbeddedDocumentField)
    field = next(
        name for name, one in fields.items() if one.document_type is fo.Detections
    )
    options = {"k": 3, "protocol": Protocol("identity"), "patches_field": field}
    first, second = (
        explain_retrieval(dataset, "demo", key=key, kinds=kinds, **options)
        for key, kinds in (("one", ["evidence"]), ("two", ["evidence", "sfam"]))
    )
    compared = compare_runs(first, second)
    # Two runs of one model differ in nothing.
    assert len(compared.query) > 0
    assert not len(compared.changed)
    assert all(figure.difference.value == 0 for figure in compared.figures)
    assert compared.pairs.shape[1] == len(first.pairs)
    for region in compared.regions:
        assert region.difference.value == pytest.approx(0, abs=1e-9)
    assert compared.places is not None
    assert compared.places.shares[0].sum() == pytest.approx(1, abs=1e-2)
    dataset.delete()
