"""The causal check: changed images, measured drops, claims beside them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import nn

from fiftyone_sfam import EmbeddingModel, Preprocessing, Protocol, explain_retrieval
from fiftyone_sfam.audit.regions.causal import check_causally
from fiftyone_sfam.audit.regions.causal_result import (
    RESULT,
    CausalCheck,
    load_causal_check,
)
from fiftyone_sfam.audit.regions.images import (
    Fills,
    RegionImage,
    RegionImages,
    changed,
    region_only,
    rolled,
)
from fiftyone_sfam.audit.regions.ledger import Ledger, build_ledger
from fiftyone_sfam.audit.regions.partitions import BACKGROUND
from fiftyone_sfam.audit.statistics.bootstrap import rank_correlation
from fiftyone_sfam.errors import DataError, ModelError, RunError
from fiftyone_sfam.runs.run import Run
from worlds import FRAME, HEIGHT, PLACES, WIDTH, fill_frames, tiny_model

SIZE = 8


class MeanColor(nn.Module):
    """The mean color of an image, seen place by place: nothing looks beyond a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.map = nn.Conv2d(3, 3, 1, bias=False)
        with torch.no_grad():
            self.map.weight.copy_(torch.eye(3)[:, :, None, None])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.map(images).mean((2, 3))


def mean_color() -> EmbeddingModel:
    preprocess = Preprocessing((SIZE, SIZE), mean=(0, 0, 0), std=(1, 1, 1))
    return EmbeddingModel(MeanColor().eval(), preprocess, name="mean-color")


def picture(number: int) -> np.ndarray:
    """Two colors: the person in the middle, and around it the background."""
    generator = np.random.default_rng(number)
    pixels = np.empty((SIZE, SIZE, 3))
    pixels[:] = generator.integers(0, 256, 3)
    pixels[2:6, 3:6] = generator.integers(0, 256, 3)
    return pixels.astype(np.uint8)


def person() -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
    mask[2:6, 3:6] = 1
    return mask


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Twelve images of four identities, embedded by their mean color."""
    folder = tmp_path_factory.mktemp("colors")
    samples = []
    for number in range(12):
        path = folder / f"{number}.png"
        Image.fromarray(picture(number)).save(path)
        samples.append(
            fo.Sample(
                filepath=str(path),
                identity=f"p{number % 4}",
                person=fo.Segmentation(mask=person()),
            )
        )
    dataset = fo.Dataset()
    dataset.add_samples(samples)
    dataset.mask_targets = {"person": {1: "person"}}
    yield explain_retrieval(dataset, mean_color(), k=3, protocol=Protocol("identity"))
    dataset.delete()


@pytest.fixture(scope="module")
def ledger(run: Run) -> Ledger:
    return build_ledger(run, "person", save=False)


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


# --------------------------------------------------------------------------------------
# Numbers
# --------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["query", "gallery"])
def test_drops_of_a_painted_background_by_hand(
    run: Run, ledger: Ledger, side: str
) -> None:
    found = check_causally(
        run,
        mean_color(),
        pairs=[0, 5, 7],
        ledger=ledger,
        change="mean",
        side=side,
        save=False,
    )
    pictures = [picture(number).astype(np.float64) for number in range(12)]
    color = np.mean([one.mean(axis=(0, 1)) for one in pictures], axis=0)
    inside = person()[:, :, None] > 0
    assert found.pairs.tolist() == [0, 5, 7]
    for row, pair in enumerate(found.pairs.tolist()):
        ends = [int(run.pairs.query[pair]), int(run.pairs.gallery[pair])]
        item, partner = ends if side == "query" else ends[::-1]
        assert found.items[row] == item
        before = pictures[item].mean(axis=(0, 1))
        after = np.where(inside, pictures[item], np.rint(color)).mean(axis=(0, 1))
        other = pictures[partner].mean(axis=(0, 1))
        score = cosine(before, other)
        assert found.score[row] == pytest.approx(score, abs=1e-5)
        assert found.score[row] == pytest.approx(run.pairs.similarity[pair], abs=1e-5)
        drop = score - cosine(after, other)
        assert found.drop[row] == pytest.approx(drop, abs=1e-4)
        # Averages of pixels are split exactly: the claim is the background's part.
        outside = np.where(inside, 0, pictures[item]).sum(axis=(0, 1)) / SIZE**2
        claim = outside @ other / np.linalg.norm(before) / np.linalg.norm(other)
        assert found.claim[row] == pytest.approx(claim, abs=0.01)
        assert found.area[row] == pytest.approx(1 - 12 / 64)


def test_the_control_moves_the_same_area_elsewhere(run: Run, ledger: Ledger) -> None:
    found = check_causally(
        run, mean_color(), ledger=ledger, region="person", draws=20, save=False
    )
    assert len(found) == 12
    # At a random place the region carries what its area lets expect: 12 of 64 places.
    expected = found.score * 12 / 64
    assert np.abs(found.control_claim - expected).max() < 0.1
    assert np.abs(found.claim - expected).max() > 0.1
    assert not np.allclose(found.control_drop, found.drop, atol=0.01)


def test_correlations_are_of_claims_and_drops(run: Run, ledger: Ledger) -> None:
    found = check_causally(
        run,
        mean_color(),
        pairs=range(len(run.pairs)),
        ledger=ledger,
        change="mean",
        save=False,
    )
    assert len(found) == len(run.pairs)
    assert found.correlation.value == pytest.approx(
        stats.spearmanr(found.claim, found.drop).statistic
    )
    assert found.correlation.low <= found.correlation.value <= found.correlation.high
    # Every image has the same mask, so the area cannot tell anything.
    assert np.isnan(found.area_correlation.value)


def test_blur_leaves_a_flat_image_as_it_was(run: Run, ledger: Ledger) -> None:
    flat = np.full((SIZE, SIZE, 3), 90.0, dtype=np.float32)
    image = RegionImage(0, flat, person().astype(np.float32))
    fills = Fills("blur", (), np.zeros(3, dtype=np.float32))
    fill = fills.draw(image, [None], np.random.default_rng(0))
    np.testing.assert_array_equal(fill, flat)
    found = check_causally(run, mean_color(), ledger=ledger, change="blur", save=False)
    assert np.abs(found.drop).max() > 0
    assert found.drop.std() < 0.1


def test_draws_are_seeded(run: Run, ledger: Ledger) -> None:
    def drops(seed: int) -> np.ndarray:
        options = {"ledger": ledger, "limit": 8, "seed": seed, "save": False}
        return check_causally(run, mean_color(), **options).drop

    first = drops(1)
    assert len(first) == 8
    np.testing.assert_array_equal(first, drops(1))
    assert not np.array_equal(first, drops(2))


# --------------------------------------------------------------------------------------
# Images
# --------------------------------------------------------------------------------------


def test_only_the_region_changes() -> None:
    pixels = picture(1).astype(np.float32)
    mask = person().astype(np.float32)
    mask[0, 0] = 0.5
    found = np.asarray(changed(pixels, mask, np.zeros_like(pixels))).astype(int)
    assert (found[person() > 0] == 0).all()
    np.testing.assert_array_equal(found[7], pixels[7].astype(int))
    np.testing.assert_allclose(found[0, 0], pixels[0, 0] / 2, atol=0.51)


def test_a_rolled_region_keeps_its_area() -> None:
    mask = person().astype(np.float32)
    moved = rolled(mask, np.random.default_rng(3))
    assert moved.sum() == mask.sum()
    assert not np.array_equal(moved, mask)


def test_what_replaces_a_background_shows_no_person() -> None:
    pixels = picture(2).astype(np.float32)
    image = RegionImage(0, pixels, 1 - person().astype(np.float32))
    np.testing.assert_allclose(region_only(image), np.full_like(pixels, pixels[0, 0]))


def test_donors_are_of_another_identity() -> None:
    masks = 1 - person().astype(np.float32)
    donors = tuple(
        RegionImage(number, picture(number).astype(np.float32), masks)
        for number in range(3)
    )
    fills = Fills("replace", donors, np.zeros(3, dtype=np.float32))
    generator = np.random.default_rng(0)
    for _ in range(10):
        fill = fills.draw(donors[0], ["a", "a", "b"], generator)
        np.testing.assert_allclose(fill, region_only(donors[2]), atol=0.51)
    drawn = {
        tuple(fills.draw(donors[0], [None, "a", "a"], generator)[0, 0])
        for _ in range(20)
    }
    assert drawn == {tuple(picture(number)[0, 0].astype(float)) for number in (1, 2)}
    with pytest.raises(DataError, match="no other identity has an image"):
        fills.draw(donors[0], ["a", "a", "a"], generator)


def test_detections_are_cut_out(dataset: fo.Dataset, tmp_path: Path) -> None:
    fill_frames(dataset, tmp_path, frames=2)
    dataset.set_values("ground", [fo.Segmentation(mask=np.eye(FRAME, dtype=int))] * 2)
    people = explain_retrieval(dataset, tiny_model(), k=1, patches_field="people")
    read = RegionImages(people, "ground", 3, "foreground").read([4, 0])
    left, top = PLACES[1]
    image = read[0]
    assert isinstance(image, RegionImage)
    assert image.item == 4
    rows, columns = slice(top, top + HEIGHT), slice(left, left + WIDTH)
    np.testing.assert_array_equal(image.mask, np.eye(FRAME)[rows, columns])
    with Image.open(dataset.values("filepath")[1]) as frame:
        np.testing.assert_array_equal(image.pixels, np.asarray(frame)[rows, columns])
    assert RegionImages(people, "ground", 3, "hand").read([1]) == [
        "it has no region 'hand'."
    ]


# --------------------------------------------------------------------------------------
# What is refused, left out and stored
# --------------------------------------------------------------------------------------


def test_another_model_is_refused(run: Run, ledger: Ledger) -> None:
    other = mean_color()
    with torch.no_grad():
        other.network.map.weight.mul_(2)
    with pytest.raises(ModelError, match=r"are not those that the run 'sfam' was made"):
        check_causally(run, other, ledger=ledger)


def test_unusable_options(run: Run, ledger: Ledger) -> None:
    model = mean_color()
    with pytest.raises(DataError, match="unknown change 'burn'; use one of replace"):
        check_causally(run, model, ledger=ledger, change="burn")
    with pytest.raises(DataError, match="unknown side 'left'"):
        check_causally(run, model, ledger=ledger, side="left")
    with pytest.raises(DataError, match="draws is 0"):
        check_causally(run, model, ledger=ledger, draws=0)
    with pytest.raises(DataError, match="no region 'hand'"):
        check_causally(run, model, ledger=ledger, region="hand")
    with pytest.raises(DataError, match="none of the pairs is in the ledger"):
        check_causally(run, model, pairs=[], ledger=ledger)
    with pytest.raises(RunError, match="has no ledger to check; make one"):
        check_causally(run, model)


def test_changed_files_are_left_out(run: Run, ledger: Ledger) -> None:
    first = Path(run.dataset.values("filepath")[3])
    before = first.read_bytes()
    try:
        Image.fromarray(255 - picture(3)).save(first)
        found = check_causally(run, mean_color(), ledger=ledger, save=False)
        assert set(found.skipped) == {3}
        assert found.skipped[3].startswith(
            "its embedding differs from the run's (1 - similarity 0."
        )
        assert found.skipped[3].endswith(
            ", accepted 0.001 for embeddings stored in float32); the file has changed "
            "since."
        )
        assert 3 not in found.items
        assert len(found) == 11
        first.unlink()
        gone = check_causally(run, mean_color(), ledger=ledger, save=False)
        assert "the file does not exist" in gone.skipped[3]
    finally:
        first.write_bytes(before)


def test_a_check_is_stored_with_its_run(run: Run) -> None:
    assert load_causal_check(run) is None
    build_ledger(run, "person")
    found = check_causally(run, mean_color(), change="blur", side="gallery")
    stored = load_causal_check(run)
    assert isinstance(stored, CausalCheck)
    for name, value in vars(found).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(getattr(stored, name), value)
        else:
            assert repr(getattr(stored, name)) == repr(value)
    assert stored.sentence == found.sentence
    assert found.sentence.startswith(
        f"with the {BACKGROUND} of the gallery image blurred, the similarity falls by "
        f"{found.drop.mean():.3f} on average; the ledger attributes "
        f"{found.claim.mean():.3f} to it; rank correlation"
    )
    run.results.delete(RESULT)
    run.results.delete("regions")


# --------------------------------------------------------------------------------------
# Correlation
# --------------------------------------------------------------------------------------


def test_correlations_by_hand() -> None:
    one = np.array([1.0, 2, 3, 4, 5])
    clusters = np.arange(5)
    assert rank_correlation(one, one**3, clusters).value == pytest.approx(1)
    assert rank_correlation(one, -one, clusters).high == pytest.approx(-1)
    swapped = np.array([2.0, 1, 3, 4, 5])
    # 1 - 6 * (1 + 1) / (5 * 24)
    assert rank_correlation(one, swapped, clusters).value == pytest.approx(0.9)
    assert np.isnan(rank_correlation(one, np.ones(5), clusters).value)
    few = rank_correlation(one, swapped, np.array([0, 0, 0, 1, 1]))
    assert np.isnan([few.low, few.high]).all()
    assert few.value == pytest.approx(0.9)


def test_intervals_draw_images_and_not_pairs() -> None:
    generator = np.random.default_rng(0)
    one = generator.normal(size=60)
    other = one + generator.normal(size=60)
    clusters = np.arange(60)
    alone = rank_correlation(one, other, clusters)
    repeated = rank_correlation(
        np.tile(one, 5), np.tile(other, 5), np.tile(clusters, 5)
    )
    width = alone.high - alone.low
    assert repeated.high - repeated.low == pytest.approx(width, rel=0.1)
    assert alone.low < alone.value < alone.high
    assert 0.2 < width < 0.5


# --------------------------------------------------------------------------------------
# Real persons
# --------------------------------------------------------------------------------------


def test_the_ledger_of_real_persons(
    assets_dir: Path, dataset: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(assets_dir))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    from reference_models import load_reference_model

    network = load_reference_model("osnet_x0_25_msmt17", assets_dir)
    folder = assets_dir / "data" / "market1501_subset"
    masks = sorted((assets_dir / "data" / "market1501_subset_masks").glob("*.png"))[:60]
    dataset.add_samples(
        fo.Sample(
            filepath=str(folder / f"{mask.stem}.jpg"),
            identity=mask.stem[:4],
            person=fo.Segmentation(mask_path=str(mask)),
        )
        for mask in masks
    )
    dataset.mask_targets = {"person": {255: "person"}}
    model = EmbeddingModel(network, network.preprocess, name="osnet")
    run = explain_retrieval(
        dataset, model, k=2, protocol=Protocol("identity"), batch_size=20
    )
    ledger = build_ledger(run, "person")
    assert not ledger.missing
    totals = ledger.shares.sum(axis=2, dtype=np.float64) + ledger.remainder
    np.testing.assert_allclose(totals, ledger.score[:, None] + np.zeros(2), atol=1e-5)
    # The persons carry most of the score, on about half of the area.
    true = [one for one in ledger.cells if one.groups == (("outcome", "true match"),)]
    [cell] = [one for one in true if one.region == "person"]
    assert 0.6 < cell.low < cell.share < cell.high < 0.8
    assert 0.5 < cell.area < 0.65
    found = check_causally(run, model, change="mean", draws=1)
    assert len(found) == 60
    # The claim tells where the similarity falls, but claims more than is lost.
    assert found.correlation.low > 0
    assert 0 < found.drop.mean() < found.claim.mean()
