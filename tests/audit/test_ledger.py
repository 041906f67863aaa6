"""The ledger of regions: rows that add up, averages by hand, intervals by queries."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_sfam import Protocol, delete_run, explain_retrieval, load_run
from fiftyone_sfam.audit.regions.ledger import (
    RESULT,
    Ledger,
    build_ledger,
    load_ledger,
    pair_groups,
    summarize,
)
from fiftyone_sfam.audit.regions.ledger_cells import (
    REMAINDER,
    Cell,
    aggregate,
    find_cell,
    ratio_interval,
    sentence,
)
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.statistics.bootstrap import resampled_sums
from fiftyone_sfam.errors import DataError, RunError
from fiftyone_sfam.retrieval.pairs import GALLERY, OUTCOMES
from fiftyone_sfam.runs.run import Run
from worlds import HEIGHT, WIDTH, fill, fill_frames, tiny_model

PROTOCOL = Protocol("identity", camera_field="camera", exclude_same_camera=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """12 images with masks and parts, but the last without; several shards."""
    dataset = fo.Dataset()
    fill(dataset, tmp_path_factory.mktemp("images"))
    masks = [fo.Segmentation(mask=mask_of(number)) for number in range(11)]
    dataset.set_values("person", [*masks, None])
    boxes = [[0, 0, 1, 0.5]] * 11 + [[0, 0.25, 1, 0.25]]
    labels = ["head"] * 11 + ["hat"]
    dataset.set_values(
        "parts",
        [
            fo.Detections(detections=[fo.Detection(label=label, bounding_box=box)])
            for label, box in zip(labels, boxes, strict=True)
        ],
    )
    yield explain_retrieval(dataset, tiny_model(), k=3, protocol=PROTOCOL, batch_size=5)
    dataset.delete()


def mask_of(number: int) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, 2, (HEIGHT, WIDTH)).astype(np.uint8)


def cover_of(number: int) -> np.ndarray:
    """The mask on the grid of 8 x 4 cells, without anything of the package."""
    return mask_of(number).reshape(8, 2, 4, 2).mean(axis=(1, 3))


# --------------------------------------------------------------------------------------
# Rows
# --------------------------------------------------------------------------------------


def test_rows_are_the_evidence_under_the_masks(run: Run) -> None:
    ledger = build_ledger(run, "person", save=False)
    assert ledger.regions == ("foreground", BACKGROUND)
    assert ledger.pairs.tolist() == list(range(len(run.pairs)))
    for row, pair in enumerate(ledger.pairs.tolist()):
        maps = run.maps(pair)
        ends = (ledger.query[row], ledger.gallery[row])
        for side, (item, one) in enumerate(
            zip(ends, (maps.query, maps.gallery), strict=True)
        ):
            if item == 11:
                assert np.isnan(ledger.shares[row, side]).all()
                continue
            assert one is not None
            evidence = one.maps["evidence"].astype(np.float64)
            inside = (evidence * cover_of(item)).sum()
            expected = [inside, evidence.sum() - inside]
            np.testing.assert_allclose(ledger.shares[row, side], expected, atol=1e-6)
            area = cover_of(item).mean()
            np.testing.assert_allclose(
                ledger.area[row, side], [area, 1 - area], atol=1e-6
            )


def test_rows_add_up_to_the_score(run: Run) -> None:
    ledger = build_ledger(run, save=False)
    assert not np.isnan(ledger.shares).any()
    totals = ledger.shares.sum(axis=2, dtype=np.float64) + ledger.remainder
    np.testing.assert_allclose(totals, run.pairs.similarity[:, None] + np.zeros(2))
    # Eight bits: each of 32 cells is off by at most half a step of its map.
    largest = max(
        np.abs(side.maps["evidence"]).max()
        for maps in run.many_maps(range(len(run.pairs)))
        for side in (maps.query, maps.gallery)
    )
    off = np.abs(ledger.remainder - run.remainders)
    assert 0 < off.max() < 32 * largest / 254
    # Most of this network's score is not on its maps, which must show.
    assert np.abs(run.remainders).min() > 0.01


def test_exact_maps_leave_the_exact_remainder(run: Run, tmp_path: Path) -> None:
    dataset = run.dataset
    exact = explain_retrieval(
        dataset, tiny_model(), key="exact", k=2, map_dtype="float32"
    )
    ledger = build_ledger(exact, save=False)
    np.testing.assert_allclose(ledger.remainder, exact.remainders, atol=1e-5)
    delete_run(dataset, "exact")


def test_parts_that_not_every_image_has(run: Run) -> None:
    ledger = build_ledger(run, "parts", save=False)
    assert ledger.regions == ("head", "hat", BACKGROUND)
    areas = ledger.item_area
    np.testing.assert_allclose(areas[0], [0.5, 0, 0.5])
    np.testing.assert_allclose(areas[11], [0, 0.25, 0.75])
    of_last = ledger.query == 11
    assert of_last.any()
    assert (ledger.shares[of_last, 0, 0] == 0).all()
    assert (ledger.shares[of_last, 0, 1] != 0).all()
    assert (ledger.shares[~of_last, 0, 1] == 0).all()
    assert not ledger.missing


def test_images_without_masks_are_counted_and_left_out(run: Run) -> None:
    ledger = build_ledger(run, "person", save=False)
    assert ledger.missing == {11: "it has no 'person'."}
    touched = (run.pairs.query == 11) | (run.pairs.gallery == 11)
    assert ledger.without_regions == touched.sum() > 0
    [cell] = summarize(ledger, {"all": ["yes"] * len(ledger)})[:1]
    assert cell.pairs == (run.pairs.query != 11).sum()
    [other] = summarize(ledger, {"all": ["yes"] * len(ledger)}, side=GALLERY)[:1]
    assert other.pairs == (run.pairs.gallery != 11).sum()


def test_ranks_are_an_option(run: Run) -> None:
    ledger = build_ledger(run, max_rank=2, save=False)
    expected = np.flatnonzero(run.pairs.rank <= 2)
    assert ledger.pairs.tolist() == expected.tolist()
    assert set(ledger.rank.tolist()) == {1, 2}
    np.testing.assert_array_equal(ledger.score, run.pairs.similarity[expected])
    whole = build_ledger(run, save=False)
    np.testing.assert_array_equal(ledger.shares, whole.shares[expected])
    assert ledger.row(int(expected[3])) == 3
    third = int(np.flatnonzero(run.pairs.rank == 3)[0])
    assert ledger.row(third) is None
    assert whole.row(third) == third
    assert whole.row(len(run.pairs)) is None


def test_blocks_of_shards_give_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build_ledger(run, "person", save=False)
    monkeypatch.setattr("fiftyone_sfam.audit.regions.ledger._BLOCK_IMAGES", 1)
    done: list[tuple[int, int, str]] = []
    blocks = build_ledger(
        run, "person", save=False, progress=lambda *state: done.append(state)
    )
    np.testing.assert_array_equal(blocks.shares, whole.shares)
    assert repr(blocks.cells) == repr(whole.cells)
    assert done == [(5, 12, "splitting"), (10, 12, "splitting"), (12, 12, "splitting")]


def test_detections_in_frames(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill_frames(dataset, tmp_path)
    people = explain_retrieval(
        dataset,
        tiny_model(),
        k=2,
        patches_field="people",
        protocol=Protocol("label", camera_field="camera", exclude_same_camera=False),
    )
    dataset.set_values(
        "ground", [fo.Segmentation(mask=np.ones((4, 4), dtype=np.uint8))] * 4
    )
    ledger = build_ledger(people, "ground", by=["camera", "site"], save=False)
    np.testing.assert_allclose(ledger.item_area, [[1, 0]] * 12, atol=1e-6)
    groups = {dict(cell.groups).get("site") for cell in ledger.cells}
    assert groups == {None, "s0", "s1"}
    assert pair_groups(people, "site") == [
        f"s{item // 3 % 2}" for item in people.pairs.query.tolist()
    ]


# --------------------------------------------------------------------------------------
# What is stored
# --------------------------------------------------------------------------------------


def assert_same(one: Ledger, other: Ledger) -> None:
    for name, value in vars(other).items():
        if name in ("remainder", "cells"):
            continue
        if isinstance(value, np.ndarray):
            assert getattr(one, name).dtype == value.dtype, name
            np.testing.assert_array_equal(getattr(one, name), value)
        else:
            assert getattr(one, name) == value, name
    assert repr(one.cells) == repr(other.cells)


def test_a_ledger_is_stored_with_its_run(run: Run) -> None:
    assert load_ledger(run) is None
    ledger = build_ledger(run, "person", by=["split"], max_rank=2, seed=3)
    stored = load_ledger(load_run(run.dataset, run.key))
    assert stored is not None
    assert_same(stored, ledger)
    result = run.results.load(RESULT)
    assert result is not None
    assert result.config["images_without_regions"] == 1
    assert (result.config["seed"], result.config["max_rank"]) == (3, 2)
    again = build_ledger(run)
    assert_same(load_ledger(run), again)
    assert again.regions == ("upper third", "middle third", "lower third")
    run.results.delete(RESULT)
    assert load_ledger(run) is None


def test_unusable_requests(run: Run) -> None:
    with pytest.raises(DataError, match="no field 'split' of masks"):
        build_ledger(run, "split")
    with pytest.raises(DataError, match="no pair has a rank up to 0"):
        build_ledger(run, max_rank=0)
    with pytest.raises(DataError, match="stripes is 0"):
        build_ledger(run, stripes=0)
    with pytest.raises(DataError, match="no group field 'nothing'"):
        build_ledger(run, by=["nothing"])
    with pytest.raises(DataError, match="'parts' holds Detections"):
        build_ledger(run, by=["parts"])
    with pytest.raises(DataError, match="'tags' holds ListField"):
        build_ledger(run, by=["tags"])
    with pytest.raises(DataError, match="no region 'hand'; its regions are upper"):
        build_ledger(run, save=False).column("hand")
    assert load_ledger(run) is None


def test_a_run_without_evidence_says_so(run: Run) -> None:
    other = explain_retrieval(
        run.dataset, tiny_model(), key="plain", k=1, kinds=["sfam"]
    )
    with pytest.raises(RunError, match="'plain' stores sfam maps, which do not add up"):
        build_ledger(other)
    delete_run(run.dataset, "plain")


def test_a_field_that_no_image_has(run: Run) -> None:
    run.dataset.add_sample_field(
        "empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation
    )
    with pytest.raises(DataError, match=r"none of the images has regions.*no 'empty'"):
        build_ledger(run, "empty")
    run.dataset.delete_sample_field("empty")


# --------------------------------------------------------------------------------------
# Averages
# --------------------------------------------------------------------------------------


def test_averages_by_hand() -> None:
    cells = aggregate(
        ["person", "background"],
        shares=np.array([[0.4, 0.2], [0.3, 0.5], [0.0, 0.1], [np.nan, np.nan]]),
        scores=np.array([0.8, 0.6, 0.2, 0.9]),
        areas=np.array([[0.25, 0.75], [0.75, 0.25], [0.5, 0.5], [np.nan, np.nan]]),
        queries=np.array([5, 5, 7, 7]),
        groups={"outcome": ["false match", "false match", "true match", "true match"]},
    )
    named = {(cell.groups[0][1], cell.region): cell for cell in cells}
    assert list(named) == [
        (outcome, region)
        for outcome in ("false match", "true match")
        for region in ("person", "background", REMAINDER)
    ]
    person = named["false match", "person"]
    assert (person.pairs, person.queries) == (2, 1)
    assert person.value == pytest.approx(0.35)
    assert person.share == pytest.approx(0.5)
    assert person.of_evidence == pytest.approx(0.5)
    assert person.area == pytest.approx(0.5)
    remainder = named["false match", REMAINDER]
    assert remainder.value == pytest.approx(0)
    assert np.isnan([remainder.area, remainder.of_evidence]).all()
    # One query tells nothing of how queries differ.
    assert np.isnan([person.low, person.high]).all()
    other = named["true match", "background"]
    assert (other.pairs, other.share, other.of_evidence) == (
        1,
        pytest.approx(0.5),
        pytest.approx(1),
    )
    assert named["true match", REMAINDER].share == pytest.approx(0.5)


def test_a_score_near_zero_does_not_spoil_a_share() -> None:
    [cell, *_] = aggregate(
        ["a"],
        np.array([[0.5], [0.3]]),
        np.array([1.0, 1e-9]),
        np.ones((2, 1)),
        np.array([0, 1]),
        {},
    )
    assert cell.groups == ()
    assert cell.share == pytest.approx(0.8)
    [negative, *_] = aggregate(
        ["a"],
        np.array([[0.5]]),
        np.array([-1.0]),
        np.ones((1, 1)),
        np.zeros(1, int),
        {},
    )
    assert np.isnan(negative.share)
    assert negative.value == 0.5


def test_groups_are_combined_and_missing_values_left_out() -> None:
    cells = aggregate(
        ["a"],
        np.full((4, 1), 0.5),
        np.ones(4),
        np.ones((4, 1)),
        np.arange(4),
        {"outcome": ["x", "x", "y", "y"], "view": ["front", None, "back", "back"]},
    )
    sizes = {cell.groups: cell.pairs for cell in cells if cell.region == "a"}
    assert sizes == {
        (("outcome", "x"), ("view", "front")): 1,
        (("outcome", "y"), ("view", "back")): 2,
    }


def test_intervals_draw_queries_and_not_pairs() -> None:
    generator = np.random.default_rng(0)
    values = generator.uniform(0, 1, 40)
    queries = np.arange(40)
    groups: dict[str, list[str | None]] = {}

    def interval(repeats: int) -> tuple[float, float]:
        cell = aggregate(
            ["a"],
            np.repeat(values, repeats)[:, None],
            np.ones(40 * repeats),
            np.ones((40 * repeats, 1)),
            np.repeat(queries, repeats),
            groups,
        )[0]
        return cell.low, cell.high

    # The same again and again is no further evidence.
    assert interval(1) == pytest.approx(interval(9))
    low, high = interval(1)
    assert low < values.mean() < high
    error = values.std(ddof=1) / np.sqrt(40)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_intervals_hold_what_they_promise() -> None:
    generator = np.random.default_rng(1)
    held = 0
    for trial in range(200):
        scores = generator.uniform(0.2, 1, 60)
        parts = 0.3 * scores + generator.normal(0, 0.1, 60)
        low, high = ratio_interval(parts[:, None], scores, 400, trial)
        held += bool(low[0] <= 0.3 <= high[0])
    assert 0.89 <= held / 200 <= 0.99


def test_draws_are_seeded_and_of_the_right_size() -> None:
    values = np.column_stack([np.ones(7), np.arange(7)])
    one = resampled_sums(values, 7, 300, 5)
    np.testing.assert_array_equal(one[:, 0], 7)
    np.testing.assert_array_equal(one, resampled_sums(values, 7, 300, 5))
    assert not np.array_equal(one, resampled_sums(values, 7, 300, 6))
    assert one[:, 1].mean() == pytest.approx(21, abs=1.5)


def test_the_cells_of_a_run(run: Run) -> None:
    ledger = build_ledger(run, "person", by=["split"], save=False)
    by = {tuple(name for name, _ in cell.groups) for cell in ledger.cells}
    assert by == {("outcome",), ("outcome", "camera pair"), ("outcome", "split")}
    cell = find_cell(
        ledger.cells, "foreground", outcome="false match", camera_pair="c0-c1"
    )
    assert cell is not None
    cameras = np.array(run.items.cameras)
    rows = (
        (ledger.outcome == OUTCOMES.index("false match"))
        & (cameras[ledger.query] == "c0")
        & (cameras[ledger.gallery] == "c1")
        & (ledger.query != 11)
    )
    assert cell.pairs == rows.sum() > 0
    assert cell.share == pytest.approx(
        ledger.shares[rows, 0, 0].sum() / ledger.score[rows].sum(), rel=1e-5
    )
    assert find_cell(ledger.cells, "foreground", outcome="unlabeled") is None
    assert find_cell(ledger.cells, "foreground", camera_pair="c0-c1") is None


def test_groups_of_pairs(run: Run) -> None:
    query = run.pairs.query.tolist()
    assert pair_groups(run, "identity") == [run.items.identities[q] for q in query]
    assert pair_groups(run, "camera") == [f"c{q % 3}" for q in query]
    assert pair_groups(run, "split") == [
        "query" if q % 3 == 0 else "gallery" for q in query
    ]
    ends = zip(query, run.pairs.gallery.tolist(), strict=True)
    assert pair_groups(run, "camera pair") == [f"c{q % 3}-c{g % 3}" for q, g in ends]


# --------------------------------------------------------------------------------------
# Words
# --------------------------------------------------------------------------------------

CELL = Cell(
    groups=(("outcome", "false match"), ("camera pair", "2-5")),
    region=BACKGROUND,
    pairs=40,
    queries=20,
    value=0.2,
    share=0.312,
    low=0.27,
    high=0.35,
    of_evidence=0.4,
    area=0.75,
)


def test_sentences_take_their_numbers_from_the_cells() -> None:
    other = replace(CELL, groups=(("outcome", "true match"),), share=0.0791)
    assert sentence(CELL, other) == (
        "background carries 31 % of the score in false matches of cameras 2-5, "
        "8 % in true matches"
    )
    alone = replace(CELL, groups=(("view", "back"),), share=-0.02)
    assert sentence(alone) == (
        "background carries -2 % of the score in all pairs with view back"
    )
    unknown = replace(CELL, groups=(), share=float("nan"))
    assert sentence(unknown).endswith("an unknown share of the score in all pairs")
