"""The check of faithfulness on runs whose answer is known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fiftyone_sfam import (
    EmbeddingModel,
    Preprocessing,
    Protocol,
    check_faithfulness,
    explain_retrieval,
    load_faithfulness,
)
from fiftyone_sfam.audit.faithfulness.check import best_layer
from fiftyone_sfam.audit.faithfulness.result import (
    BASELINES,
    RESULT,
    Faithfulness,
)
from fiftyone_sfam.errors import DataError, ModelError
from fiftyone_sfam.runs.run import Run

SIZE = 24
CORNER = 12


class LooksAtACorner(nn.Module):
    """The upper left quarter of the image dominates the embedding."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.early = nn.Conv2d(3, 6, 3, padding=1)
        self.late = nn.Conv2d(6, 8, 4, stride=4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Without any of the rest, the layers would not be maps of the image.
        mask = torch.full_like(images, 0.03)
        mask[:, :, :CORNER, :CORNER] = 1
        return self.late(self.early(images * mask).relu()).flatten(1)


def corner_model() -> EmbeddingModel:
    preprocess = Preprocessing((SIZE, SIZE), mean=(0.5,) * 3, std=(0.3,) * 3)
    return EmbeddingModel(LooksAtACorner().eval(), preprocess, name="corner")


def picture(identity: int, shot: int) -> np.ndarray:
    """Smooth blobs: in the corner those of the identity, elsewhere the shot's own."""
    noise = np.random.default_rng(100 * identity + shot).integers(0, 256, (6, 6, 3))
    own = np.random.default_rng(identity).integers(0, 256, (3, 3, 3))
    noise[:3, :3] = (3 * own + noise[:3, :3]) // 4
    small = Image.fromarray(noise.astype(np.uint8))
    return np.asarray(small.resize((SIZE, SIZE), Image.Resampling.NEAREST))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    folder = tmp_path_factory.mktemp("corners")
    dataset = fo.Dataset()
    for identity in range(8):
        for shot in range(3):
            path = folder / f"{identity}_{shot}.png"
            Image.fromarray(picture(identity, shot)).save(path)
            dataset.add_sample(fo.Sample(str(path), identity=f"p{identity}"))
    yield explain_retrieval(
        dataset,
        corner_model(),
        k=4,
        protocol=Protocol("identity"),
        kinds=["evidence"],
    )
    dataset.delete()


@pytest.fixture(scope="module")
def found(run: Run) -> Faithfulness:
    return check_faithfulness(
        run, corner_model(), 24, fill="blur", steps=8, layers=["early"], save=False
    )


@pytest.fixture(scope="module")
def filled(run: Run) -> Faithfulness:
    """The same pairs under all fills."""
    return check_faithfulness(run, corner_model(), 24, steps=8, save=False)


def test_every_map_is_followed(run: Run, found: Faithfulness) -> None:
    assert set(found.names) == {
        "path",
        "path of several scales",
        "evidence",
        "sfam",
        "evidence at early",
        "plain activation",
        "centre prior",
        "random",
    }
    assert found.kind == "evidence"
    assert len(found) == 24
    assert found.deletion.shape == found.insertion.shape == (8, 24, 9)
    # Whatever orders the pixels, the ends are the same.
    for curves in (found.deletion, found.insertion):
        for end in (0, -1):
            np.testing.assert_array_equal(curves[0, :, end], curves[-1, :, end])
    stored = run.pairs.similarity[found.pairs]
    np.testing.assert_allclose(found.deletion[0, :, 0], stored, atol=1e-5)
    # A query brings its nearest pair, and its nearest of the other outcome.
    for query in np.unique(found.queries):
        mine = found.pairs[found.queries == query]
        assert mine.min() == run.pairs.of_query(int(query))[0]
        assert len(set(run.pairs.outcome[mine].tolist())) == len(mine)


def test_maps_that_see_the_corner_win(found: Faithfulness) -> None:
    margins = {one.name: one.margin for one in found.figures}
    assert margins["evidence"].low > margins["centre prior"].high
    assert margins["path"].low > margins["random"].high
    assert abs(margins["random"].value) < margins["path"].value / 4
    # Ranked by the margin.
    values = [one.margin.value for one in found.figures]
    assert values == sorted(values, reverse=True)
    # Less than the corner, a quarter, speaks for the pair: shown, more than all is won.
    shown = found.curves("path").insertion.mean(axis=0)
    assert shown[2] > shown[-1]
    ratio = found.figures_of("path").over_chance
    assert 1.5 < ratio.low < ratio.value < ratio.high


def test_figures_follow_from_the_curves(found: Faithfulness) -> None:
    place = found.names.index("evidence")
    deletion, insertion = (
        curves[place].astype(np.float64) for curves in (found.deletion, found.insertion)
    )

    def mean(curves: np.ndarray) -> np.ndarray:
        return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2

    margin = mean(insertion) - mean(deletion)
    np.testing.assert_allclose(found.curves("evidence").margin, margin)
    whole = deletion[:, 0] - deletion[:, -1]
    np.testing.assert_allclose(found.effects("evidence"), whole + margin, atol=1e-6)
    figures = found.figures_of("evidence")
    assert figures.margin.value == pytest.approx(margin.mean())
    expected = found.effects("evidence").sum() / found.effects("random").sum()
    assert figures.over_chance.value == pytest.approx(expected)
    hidden = deletion[:, 2] >= found.threshold
    genuine = found.outcome == 0
    accuracy = (hidden[genuine].mean() + 1 - hidden[~genuine].mean()) / 2
    assert figures.accuracy_hidden == pytest.approx(accuracy)


def test_figures_are_means_over_fills(
    run: Run, found: Faithfulness, filled: Faithfulness
) -> None:
    assert filled.fills == ("blur", "mean", "inpaint", "patches")
    assert filled.by_fill.shape == (4, 2, 7, 24, 9)
    np.testing.assert_array_equal(filled.pairs, found.pairs)
    place, alone = filled.names.index("path"), found.names.index("path")
    np.testing.assert_array_equal(filled.by_fill[0, 0, place], found.deletion[alone])
    np.testing.assert_array_equal(filled.rank[place], found.rank[alone])
    figures = filled.figures_of("path")
    expected = [figures.by_fill[fill].value for fill in filled.fills]
    assert len(set(expected)) == 4
    assert figures.margin.value == pytest.approx(np.mean(expected), abs=1e-6)
    assert figures.by_fill["blur"] == found.figures_of("path").margin
    # The pixels of another image take the similarity farther than a blur does.
    ends = filled.by_fill[:, 0, place, :, -1].mean(axis=1)
    assert ends[3] < ends[0]
    for fill in filled.fills:
        assert (
            figures.by_fill[fill].low > filled.figures_of("random").by_fill[fill].high
        )


def test_decisions_are_areas_of_accuracies(filled: Faithfulness) -> None:
    place, genuine = filled.names.index("evidence"), filled.outcome == 0
    accuracies = []
    for fill in range(4):
        accepted = filled.by_fill[fill, 0, place] >= filled.threshold
        right = accepted[genuine].mean(axis=0), 1 - accepted[~genuine].mean(axis=0)
        accuracies.append((right[0] + right[1]) / 2)
    curve = np.mean(accuracies, axis=0)
    expected = (curve[1:] + curve[:-1]).mean() / 2
    figures = filled.figures_of("evidence")
    assert figures.decisions.value == pytest.approx(expected)
    assert figures.decisions.low < expected < figures.decisions.high
    assert figures.accuracy_hidden == pytest.approx(curve[2])


def test_each_query_is_hidden_by_a_stranger(run: Run, filled: Faithfulness) -> None:
    # Wholly hidden by it, the query is an image of the run that is of neither identity.
    embeddings, names = run.embeddings(), run.items.identities
    for number, pair in enumerate(filled.pairs[:6].tolist()):
        ends = int(run.pairs.query[pair]), int(run.pairs.gallery[pair])
        other = embeddings[ends[1]]
        lengths = np.linalg.norm(embeddings, axis=1) * np.linalg.norm(other)
        alike = embeddings @ other / lengths
        last = filled.by_fill[3, 0, 0, number, -1]
        [donor] = np.flatnonzero(np.abs(alike - last) < 1e-5)
        assert names[donor] not in (names[ends[0]], names[ends[1]])


def test_no_stranger_to_hide_with(run: Run) -> None:
    names = run.dataset.values("identity")
    few = run.dataset.match({"identity": {"$in": names[:1]}})
    alone = explain_retrieval(
        few, corner_model(), key="alone", k=2, protocol=Protocol("identity")
    )
    with pytest.raises(DataError, match="no other identity has an image to hide it"):
        check_faithfulness(alone, corner_model(), 2, steps=2)
    assert len(check_faithfulness(alone, corner_model(), 2, fill="mean", steps=2)) == 2


def test_the_verdict_says_whether_the_fill_decides(filled: Faithfulness) -> None:
    assert (
        "24 pairs, the query blurred, hidden by its mean color, filled in or covered "
        "by another image step by step."
    ) in filled.sentence
    names = [one.name for one in filled.figures if one.name not in BASELINES]
    place = filled.names.index(names[0])
    # As if the first map were the worst where pixels have the mean color.
    turned = filled.by_fill.copy()
    turned[1][:, place] = turned[1][::-1, place]
    found = replace(filled, by_fill=turned)
    best = max(names, key=lambda name: found.figures_of(name).by_fill["mean"].value)
    assert best != names[0]
    assert (
        f"The fill decides: '{names[0]}' is first in the mean, but " in found.sentence
    )
    assert f"'{best}' with mean" in found.sentence
    alone = replace(found, fills=("blur",), by_fill=turned[:1])
    assert "The fill decides" not in alone.sentence


def test_a_check_of_an_earlier_version_is_read(run: Run, found: Faithfulness) -> None:
    config = {
        **{name: getattr(found, name) for name in OLD_SETTINGS},
        "fill": "blur",
        "figures": [],
    }
    columns = {name: getattr(found, name) for name in OLD_COLUMNS}
    run.results.save(RESULT, config, columns)
    try:
        loaded = load_faithfulness(run)
        assert loaded is not None
        assert loaded.fills == ("blur",)
        assert repr(loaded.figures) == repr(found.figures)
        assert loaded.sentence == found.sentence
    finally:
        run.results.delete(RESULT)


OLD_SETTINGS = (
    *("kind", "side", "model", "layer", "threshold", "seed"),
    *("names", "skipped", "sentence"),
)
OLD_COLUMNS = (
    *("pairs", "queries", "outcome", "deletion", "insertion", "rank"),
    *("specificity", "stability", "remainder"),
)


def test_what_needs_no_masks(found: Faithfulness) -> None:
    by_name = {one.name: one for one in found.figures}
    for name in ("plain activation", "centre prior", "random"):
        assert by_name[name].specificity == 1
        assert np.isnan(by_name[name].remainder)
    assert by_name["centre prior"].stability == pytest.approx(1)
    assert by_name["evidence"].specificity < 0.9
    assert 0.5 < by_name["evidence"].stability < 1
    assert by_name["evidence"].remainder > 0
    assert np.isnan(by_name["sfam"].remainder)


def test_the_verdict(found: Faithfulness) -> None:
    own = found.figures_of("evidence")
    chance = own.over_chance
    assert (
        f"the evidence maps find what matters {chance.value:.2f} x better than chance "
        f"(95 % interval {chance.low:.2f} to {chance.high:.2f}), and "
    ) in found.sentence
    assert "24 pairs, the query blurred step by step." in found.sentence


def test_a_verdict_that_is_no_praise(run: Run, found: Faithfulness) -> None:
    # As if the run showed what is known to be random, or to look elsewhere.
    random = replace(found, kind="random").sentence
    assert (
        "1.00 x as well as chance (95 % interval 1.00 to 1.00), which is not" in random
    )
    centre = replace(found, kind="centre prior").sentence
    assert "The maps '" in centre
    flat = np.full_like(found.deletion, 0.5)
    nothing = replace(found, deletion=flat, insertion=flat).sentence
    assert "cannot be judged: hiding whole images hardly lowers" in nothing


def test_the_best_layer(found: Faithfulness) -> None:
    by_name = {one.name: one.margin.value for one in found.figures}
    better = by_name["evidence at early"] > by_name["evidence"]
    assert best_layer(found) == ("early" if better else found.layer)


@pytest.mark.parametrize("side", ["gallery", "both"])
def test_other_sides(run: Run, side: str) -> None:
    chosen = run.pairs.of_query(0)[:2]
    found = check_faithfulness(
        run,
        corner_model(),
        chosen.tolist(),
        side=side,
        fill="mean",
        steps=4,
        save=False,
    )
    assert (found.side, found.fills) == (side, ("mean",))
    assert found.pairs.tolist() == sorted(chosen.tolist())
    assert not found.rank.any()
    np.testing.assert_allclose(
        found.deletion[0, :, 0], run.pairs.similarity[found.pairs], atol=1e-5
    )
    if side == "both":
        # Both wholly painted in their mean colors.
        model = corner_model()
        images = torch.stack(
            [model.prepare(Image.open(path)) for path in paths_of(run, found.pairs[0])]
        )
        flat = images.mean((2, 3), keepdim=True).expand_as(images)
        one, other = model.embed(flat)
        end = float(torch.cosine_similarity(one, other, dim=0))
        assert found.deletion[0, 0, -1] == pytest.approx(end, abs=1e-5)


def paths_of(run: Run, pair: int) -> list[str]:
    items = run.pairs.query[pair], run.pairs.gallery[pair]
    return [run.dataset[str(run.items.sample_ids[item])].filepath for item in items]


def test_the_rank_of_a_true_match(run: Run, found: Faithfulness) -> None:
    true = found.outcome == 0
    assert true.any()
    assert not true.all()
    assert bool((found.rank[:, true] > 0).all())
    assert not found.rank[:, ~true].any()
    # Untouched, all maps agree with the run's neighbors.
    for place in np.flatnonzero(true):
        query, pair = found.queries[place], found.pairs[place]
        nearer = run.pairs.of_query(int(query))
        nearer = nearer[run.pairs.rank[nearer] < run.pairs.rank[pair]]
        strangers = int((run.pairs.outcome[nearer] == 1).sum())
        assert set(found.rank[:, place, 0].tolist()) == {strangers + 1}


def test_the_check_is_stored_with_the_run(run: Run) -> None:
    assert load_faithfulness(run) is None
    found = check_faithfulness(run, corner_model(), 6, steps=3)
    loaded = load_faithfulness(run)
    assert loaded is not None
    assert loaded.sentence == found.sentence
    assert repr(loaded.figures) == repr(found.figures)
    np.testing.assert_array_equal(loaded.deletion, found.deletion)
    assert loaded.names == found.names
    run.results.delete(RESULT)


def test_images_that_changed_are_skipped(run: Run) -> None:
    path = Path(run.dataset.first().filepath)
    before = path.read_bytes()
    try:
        Image.fromarray(picture(99, 99)).save(path)
        pairs = [int(run.pairs.of_query(item)[0]) for item in (0, 5)]
        found = check_faithfulness(run, corner_model(), pairs, steps=3, save=False)
        assert "its embedding differs from the run's" in found.skipped[0]
        assert found.queries.tolist() == [5]
        with pytest.raises(DataError, match="none of the pairs can be checked"):
            check_faithfulness(run, corner_model(), pairs[:1], steps=3, save=False)
    finally:
        path.write_bytes(before)


def test_unusable_requests(run: Run) -> None:
    model = corner_model()
    with pytest.raises(DataError, match="unknown side 'left'"):
        check_faithfulness(run, model, side="left")
    with pytest.raises(DataError, match="unknown fill 'black'"):
        check_faithfulness(run, model, fill="black")
    with pytest.raises(DataError, match="steps is 1"):
        check_faithfulness(run, model, steps=1)
    with pytest.raises(DataError, match="pairs is 0"):
        check_faithfulness(run, model, 0)
    with pytest.raises(DataError, match="numbered from 0 to"):
        check_faithfulness(run, model, [10**6])
    torch.manual_seed(1)
    other = LooksAtACorner()
    nn.init.zeros_(other.late.bias)
    changed = EmbeddingModel(other.eval(), model.preprocess)
    with pytest.raises(ModelError, match="are not those that the run"):
        check_faithfulness(run, changed)
