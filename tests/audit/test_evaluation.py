"""Evaluation: rankings worked out by hand, scikit-learn, and the real embedders."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from evaluation_support import Verification, identify, summarize_scores, verify
from fiftyone_sfam.audit.evaluation.blocks import CameraRule, compare
from fiftyone_sfam.audit.evaluation.measures import (
    Identification,
)
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.retrieval.search import Candidates, find_neighbors, select_candidates
from paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def on_a_circle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def evaluated(
    embeddings: np.ndarray,
    identities: list[str | None],
    cameras: list[str | None] | None = None,
    metric: str = "cosine",
    rule: CameraRule = "protocol",
    splits: list[frozenset[str]] | None = None,
    **rules: object,
) -> tuple[Identification, Verification]:
    if cameras is not None:
        rules["camera_field"] = "camera"
    protocol = Protocol("identity", **rules)
    candidates = select_candidates(
        protocol, identities, cameras or [None] * len(identities), splits
    )
    return (
        identify(embeddings, candidates, protocol, metric, rule),
        verify(embeddings, candidates, protocol, metric, rule),
    )


def test_a_ranking_worked_out_by_hand() -> None:
    # From 0 degrees the gallery is ranked 10 (b), 20 (a), 30 (b), 40 (a): the true
    # matches of the first image have the ranks 2 and 4.
    identities = ["a", "b", "a", "b", "a"]
    ranked, _ = evaluated(on_a_circle(0, 10, 20, 30, 40), identities)
    first = int(np.flatnonzero(ranked.query == 0)[0])
    assert ranked.first_match[first] == 2
    assert ranked.average_precision[first] == pytest.approx((1 / 2 + 2 / 4) / 2)
    assert ranked.inverse_negative_penalty[first] == pytest.approx(2 / 4)


def test_cmc_counts_queries_up_to_each_rank() -> None:
    ranked = Identification(
        np.arange(4), np.ones(4), np.ones(4), np.array([1, 3, 3, 9]), 0
    )
    assert ranked.cmc(4) == pytest.approx([0.25, 0.25, 0.75, 0.75])


def test_a_query_without_a_true_match_does_not_count() -> None:
    ranked, _ = evaluated(on_a_circle(0, 10, 20), ["a", "a", "b"])
    assert list(ranked.query) == [0, 1]
    assert ranked.without_match == 1
    assert ranked.mean_average_precision == 1.0


def test_same_identity_on_the_same_camera_is_left_out() -> None:
    # The nearest image of 0 is its own camera's; across cameras it ranks second.
    ranked, scores = evaluated(
        on_a_circle(0, 1, 30, 20), ["a", "a", "a", "b"], ["1", "1", "2", "2"]
    )
    assert ranked.first_match[0] == 2
    # Genuine pairs across cameras: 0-2 and 1-2. Of the impostor pairs 2-3 is of one
    # camera, so 0-3 and 1-3 are left.
    assert scores.genuine == pytest.approx(np.cos(np.deg2rad([30, 29])))
    assert scores.impostor == pytest.approx(np.cos(np.deg2rad([20, 19])))


def test_junk_is_ignored_and_distractors_count() -> None:
    # The first image ranks 5 (junk, gone), 10 (distractor), 20 (a), 32 (b); the fourth
    # ranks 10 (distractor), 32 (b), 0 (a).
    ranked, scores = evaluated(
        on_a_circle(0, 5, 10, 20, 32),
        ["a", "-1", "0", "a", "b"],
        junk=("-1",),
        distractors=("0",),
    )
    assert list(ranked.query) == [0, 3]
    assert list(ranked.first_match) == [2, 3]
    assert ranked.average_precision == pytest.approx([1 / 2, 1 / 3])
    assert ranked.without_match == 1
    # A distractor is an impostor of every query, and no query itself.
    assert scores.genuine == pytest.approx(np.cos(np.deg2rad([20])))
    assert scores.impostor == pytest.approx(np.cos(np.deg2rad([32, 22, 12, 10, 10])))


def test_queries_search_the_gallery_alone() -> None:
    # Nearest to the query at 0 are 2 and 4, which are queries too.
    parts = ["query", "query", "query", "gallery", "gallery", "gallery"]
    ranked, scores = evaluated(
        on_a_circle(0, 2, 4, 30, 20, 50),
        ["a", "a", "b", "a", "b", "c"],
        splits=[frozenset([part]) for part in parts],
        split_field="part",
    )
    assert list(ranked.query) == [0, 1, 2]
    assert list(ranked.first_match) == [2, 2, 1]
    assert scores.genuine == pytest.approx(np.cos(np.deg2rad([30, 28, 16])))
    assert len(scores.impostor) == 3 * 3 - 3


@pytest.mark.parametrize(
    ("rule", "first", "genuine", "impostor"),
    [
        # Left out for the first image: nothing; 1 (its identity, its camera); 1 and 40
        # (its camera); 30 and 20 (other cameras).
        ("all", 1, [30, 29, 1], [40, 39, 20, 20, 19, 10, 10]),
        ("protocol", 2, [30, 29], [20, 20, 19, 10]),
        ("cross", 2, [30, 29], [20, 20, 19, 10]),
        ("single", 1, [1], [40, 39, 10]),
    ],
)
def test_rules_on_cameras(
    rule: CameraRule, first: int, genuine: list[float], impostor: list[float]
) -> None:
    ranked, scores = evaluated(
        on_a_circle(0, 1, 30, 20, 40),
        ["a", "a", "a", "b", "c"],
        ["1", "1", "2", "2", "1"],
        rule=rule,
    )
    assert ranked.first_match[0] == first
    assert scores.genuine == pytest.approx(np.cos(np.deg2rad(genuine)))
    assert scores.impostor == pytest.approx(np.cos(np.deg2rad(impostor)))


def test_cross_leaves_out_strangers_of_the_querys_camera() -> None:
    # The stranger at 5 shares the query's camera, the true match at 10 does not.
    arguments = on_a_circle(0, 5, 10), ["a", "b", "a"], ["1", "1", "2"]
    assert evaluated(*arguments)[0].first_match[0] == 2
    assert evaluated(*arguments, rule="cross")[0].first_match[0] == 1


def test_rules_on_cameras_need_cameras() -> None:
    with pytest.raises(DataError, match="rule 'cross' needs cameras"):
        evaluated(on_a_circle(0, 5), ["a", "a"], rule="cross")
    with pytest.raises(DataError, match="unknown camera rule 'both'"):
        evaluated(on_a_circle(0, 5), ["a", "a"], rule="both")


def test_same_camera_pairs_count_where_the_protocol_allows_them() -> None:
    _, scores = evaluated(
        on_a_circle(0, 1, 20), ["a", "a", "b"], ["1"] * 3, exclude_same_camera=False
    )
    assert (len(scores.genuine), len(scores.impostor)) == (1, 2)


def test_unlabeled_images_are_ranked_but_are_no_pairs() -> None:
    ranked, scores = evaluated(on_a_circle(0, 10, 20), ["a", None, "a"])
    assert list(ranked.first_match) == [2, 2]
    assert len(scores.genuine) == 1
    assert len(scores.impostor) == 0
    assert np.isnan(scores.auc)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_agrees_with_scikit_learn(metric: str) -> None:
    generator = np.random.default_rng(3)
    centers = generator.normal(size=(8, 6))
    labels = generator.integers(0, 8, 70)
    embeddings = centers[labels] + 0.9 * generator.normal(size=(70, 6))
    identities = [str(label) for label in labels]
    ranked, scores = evaluated(embeddings, identities, metric=metric)
    if metric == "cosine":
        units = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
        near = units @ units.T
    else:
        near = -np.linalg.norm(embeddings[:, None] - embeddings, axis=2)
    same = labels[:, None] == labels
    for place, query in enumerate(ranked.query):
        others = np.arange(70) != query
        expected = average_precision_score(same[query, others], near[query, others])
        assert ranked.average_precision[place] == pytest.approx(expected, abs=1e-9)
    upper = np.triu(np.ones((70, 70), dtype=bool), 1)
    assert scores.auc == pytest.approx(
        roc_auc_score(same[upper], near[upper]), abs=1e-9
    )
    assert len(scores.genuine) + len(scores.impostor) == upper.sum()
    fpr, tpr, thresholds = roc_curve(same[upper], near[upper], drop_intermediate=False)
    # The first threshold of scikit-learn accepts nothing; rounding aside.
    fmr, fnmr = scores.rates(thresholds[1:] - 1e-9)
    assert fmr == pytest.approx(fpr[1:], abs=1e-9)
    assert 1 - fnmr == pytest.approx(tpr[1:], abs=1e-9)


def test_rates_and_equal_error_by_hand() -> None:
    scores = Verification(
        np.array([0.3, 0.6, 0.8, 0.9]), np.array([0.1, 0.2, 0.4, 0.7])
    )
    fmr, fnmr = scores.rates(np.array([0.5, 0.65]))
    assert fmr == pytest.approx([0.25, 0.25])
    assert fnmr == pytest.approx([0.25, 0.5])
    rate, threshold = scores.equal_error()
    assert rate == pytest.approx(0.25)
    assert threshold == pytest.approx(0.6)
    # Pairs won: 0.3 beats 2, 0.6 beats 3, 0.8 and 0.9 beat 4 of 4.
    assert scores.auc == pytest.approx(13 / 16)


def test_threshold_for_a_wanted_rate() -> None:
    scores = Verification(np.array([0.5, 0.9]), np.array([0.1, 0.2, 0.4, 0.7]))
    for wanted, passing in ((0.0, 0), (0.25, 1), (0.5, 2)):
        threshold = scores.threshold_for(wanted)
        assert (scores.impostor >= threshold).sum() == passing
    assert scores.threshold_for(1.0) == pytest.approx(0.1)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("exclude", [False, True])
def test_ranks_are_those_of_the_run(metric: str, exclude: bool) -> None:
    generator = np.random.default_rng(5)
    embeddings = generator.normal(size=(30, 4))
    embeddings[20:] = embeddings[:10]  # exact duplicates, under other labels
    identities: list[str | None] = [str(place % 7) for place in range(30)]
    protocol = Protocol("identity", exclude_duplicates=exclude)
    candidates = select_candidates(protocol, identities, [None] * 30, None)
    ranked = identify(embeddings, candidates, protocol, metric)
    found = find_neighbors(embeddings, candidates, protocol, 1, metric)
    assert list(ranked.first_match) == list(found.true_rank)
    # Left in, a duplicate is ahead of every true match of the images that have one.
    assert (ranked.first_match[:10] >= 2).all() or exclude


# --------------------------------------------------------------------------------------
# Any data, against the definitions spelled out
# --------------------------------------------------------------------------------------


def left_out(
    candidates: Candidates, protocol: Protocol, rule: str, query: int, other: int
) -> bool:
    """Whether a ranking leaves a pair out."""
    if query == other:
        return True
    cameras, identities = candidates.cameras, candidates.identities
    same_camera = cameras[query] == cameras[other] != -1
    if rule == "cross":
        return bool(same_camera)
    if rule == "single":
        return not same_camera
    return bool(
        rule == "protocol"
        and protocol.camera_field
        and protocol.exclude_same_camera
        and same_camera
        and identities[query] == identities[other] != -1
    )


def spelled_out(
    scores: np.ndarray, candidates: Candidates, protocol: Protocol, rule: str
) -> tuple[dict[int, tuple[float, float, int]], list[float], list[float]]:
    """AP, INP and first rank by query, and the scores of genuine and impostor pairs."""
    identities, cameras = candidates.identities, candidates.cameras
    measures, genuine, impostor, seen = {}, [], [], set()

    def match(query: int, other: int) -> bool:
        return bool(
            identities[query] == identities[other] != -1
            and not candidates.distractors[other]
        )

    for query in candidates.queries.tolist():
        ranking = sorted(
            (
                other
                for other in candidates.gallery.tolist()
                if not left_out(candidates, protocol, rule, query, other)
            ),
            key=lambda other, query=query: (-scores[query, other], other),
        )
        ranks = [1 + n for n, other in enumerate(ranking) if match(query, other)]
        if identities[query] != -1 and ranks:
            precisions = [(n + 1) / rank for n, rank in enumerate(ranks)]
            measures[query] = (
                sum(precisions) / len(ranks),
                len(ranks) / ranks[-1],
                ranks[0],
            )
        for other in ranking:
            apart = cameras[query] == cameras[other] != -1
            if (
                -1 in (identities[query], identities[other])
                or frozenset((query, other)) in seen
                or (
                    rule == "protocol"
                    and protocol.camera_field
                    and protocol.exclude_same_camera
                    and apart
                )
            ):
                continue
            seen.add(frozenset((query, other)))
            kind = genuine if match(query, other) else impostor
            kind.append(scores[query, other])
    return measures, sorted(genuine), sorted(impostor)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(2, 24),
    metric=st.sampled_from(["cosine", "euclidean"]),
    rule=st.sampled_from(["protocol", "all", "cross", "single"]),
    exclude=st.booleans(),
    ties=st.booleans(),
    split=st.booleans(),
    rows=st.integers(1, 9),
)
def test_agrees_with_the_definitions(
    seed: int,
    count: int,
    metric: str,
    rule: CameraRule,
    exclude: bool,
    ties: bool,
    split: bool,
    rows: int,
) -> None:
    generator = np.random.default_rng(seed)
    embeddings = generator.normal(size=(count, 3))
    if ties:
        embeddings = np.round(embeddings) + 0.25
    known = ["a", "b", "c", "distractor", None]
    identities = [known[place] for place in generator.integers(0, 5, count)]
    cameras = [["1", "2", None][place] for place in generator.integers(0, 3, count)]
    cameras[0] = "1"
    splits = None
    if split:
        choices = [{"query"}, {"gallery"}, {"query", "gallery"}]
        splits = [frozenset(choices[n]) for n in generator.integers(0, 3, count)]
    protocol = Protocol(
        "identity",
        camera_field="camera",
        exclude_same_camera=exclude,
        distractors=("distractor",),
        split_field="part" if split else None,
    )
    try:
        candidates = select_candidates(protocol, identities, cameras, splits)
    except DataError:
        return  # no query, or no gallery
    norms = np.linalg.norm(embeddings, axis=1)
    if metric == "cosine":
        near = embeddings @ embeddings.T / norms / norms[:, None]
    else:
        near = -np.linalg.norm(embeddings[:, None] - embeddings, axis=2)
    near = np.round(near, 12)
    measures, genuine, impostor = spelled_out(near, candidates, protocol, rule)
    ranked = identify(embeddings, candidates, protocol, metric, rule)
    scores = verify(embeddings, candidates, protocol, metric, rule)
    assert list(ranked.query) == list(measures)
    found = zip(
        ranked.average_precision,
        ranked.inverse_negative_penalty,
        ranked.first_match,
        strict=True,
    )
    for one, expected in zip(found, measures.values(), strict=True):
        assert one == pytest.approx(expected, abs=1e-9)
    assert scores.genuine == pytest.approx(genuine, abs=1e-7)
    assert scores.impostor == pytest.approx(impostor, abs=1e-7)
    if genuine and impostor:
        rates = [
            (
                (scores.impostor >= threshold).mean(),
                (scores.genuine < threshold).mean(),
                threshold,
            )
            for threshold in np.unique([*scores.genuine, *scores.impostor])
        ]
        fmr, fnmr, at = min(rates, key=lambda one: (abs(one[0] - one[1]), one[2]))
        assert scores.equal_error() == pytest.approx(((fmr + fnmr) / 2, at))
    else:
        assert np.isnan(scores.equal_error()).all()
    # In other blocks the same, up to rounding.
    blocks = compare(
        embeddings, candidates, protocol, metric, rule, rows * 8 * count
    ).blocks()
    whole = compare(embeddings, candidates, protocol, metric, rule).blocks()
    assert np.allclose(
        np.concatenate([block.scores for block in blocks]),
        np.concatenate([block.scores for block in whole]),
        rtol=0,
        atol=1e-11,
    )


def check_real():
    spec = importlib.util.spec_from_file_location(
        "check_real", BENCHMARKS / "check_real.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_real"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("title", "rank1", "auc", "mean_average_precision"),
    [
        ("osnet_x0_25_msmt17", 0.7560, 0.9381, 0.565),
        ("mobilefacenet", 0.9938, 0.9938, None),
        ("hse_faceres_mobilenetv1", 0.9969, 0.9901, None),
        ("dlib_resnet", 0.9906, 0.9960, None),
    ],
)
def test_real_embedders(
    assets_dir: Path,
    title: str,
    rank1: float,
    auc: float,
    mean_average_precision: float | None,
) -> None:
    import torch
    from PIL import Image

    tool = check_real()
    reference = tool.load_reference(assets_dir)
    network = reference.load_reference_model(title, assets_dir)
    folder = assets_dir / "data" / reference.REFERENCE_MODELS[title].data_folder
    paths = sorted(folder.rglob("*.jpg"))
    found = [tool.MARKET_NAME.match(path.name) for path in paths]
    market = found[0] is not None
    identities: list[str | None] = [
        one["identity"] if one else path.parent.name
        for one, path in zip(found, paths, strict=True)
    ]
    cameras = [one["camera"] if one else None for one in found] if market else None
    with torch.no_grad():
        embeddings = torch.cat(
            [
                network(
                    torch.stack(
                        [network.preprocess(Image.open(p)) for p in paths[i : i + 32]]
                    )
                )
                for i in range(0, len(paths), 32)
            ]
        ).numpy()
    ranked, scores = evaluated(embeddings, identities, cameras, network.metric)
    assert round(float(ranked.cmc(1)[0]), 4) == rank1
    assert round(scores.auc, 4) == auc
    protocol = Protocol("identity", camera_field="camera" if market else None)
    candidates = select_candidates(
        protocol, identities, cameras or [None] * len(paths), None
    )
    comparisons = compare(embeddings, candidates, protocol, network.metric)
    summary = summarize_scores(comparisons)
    assert round(summary.auc, 4) == auc
    assert (summary.equal_error, summary.equal_error_threshold) == scores.equal_error()
    # Some 50,000 to 140,000 pairs of two identities: too few to speak of 1e-4.
    assert [point.supported for point in summary.operating] == [True] * 3 + [False]
    if mean_average_precision is not None:
        assert round(ranked.mean_average_precision, 3) == mean_average_precision
        # "With same-camera matches allowed, about 89 of 545 images" fail.
        ranked, _ = evaluated(
            embeddings, identities, cameras, network.metric, rule="all"
        )
        assert round(545 * (1 - float(ranked.cmc(1)[0]))) == 89
