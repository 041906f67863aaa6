"""Evaluation: rankings worked out by hand, scikit-learn, and the real embedders."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from fiftyone_sfam.audit.evaluation import (
    Identification,
    Verification,
    identify,
    verify,
)
from fiftyone_sfam.errors import DataError
from fiftyone_sfam.protocol import Protocol
from fiftyone_sfam.retrieval import find_neighbors, select_candidates

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def on_a_circle(*degrees: float) -> np.ndarray:
    radians = np.deg2rad(degrees)
    return np.stack([np.cos(radians), np.sin(radians)], axis=1)


def evaluated(
    embeddings: np.ndarray,
    identities: list[str | None],
    cameras: list[str | None] | None = None,
    metric: str = "cosine",
    **rules: object,
) -> tuple[Identification, Verification]:
    if cameras is not None:
        rules["camera_field"] = "camera"
    protocol = Protocol("identity", **rules)  # type: ignore[arg-type]
    candidates = select_candidates(
        protocol, identities, cameras or [None] * len(identities), None
    )
    return (
        identify(embeddings, candidates, protocol, metric),
        verify(embeddings, candidates, protocol, metric),
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


def test_too_many_pairs_are_refused() -> None:
    many = np.ones((6000, 1))
    with pytest.raises(DataError, match="36,000,000 pairs are too many"):
        evaluated(many, ["a"] * 6000)


def check_real():  # type: ignore[no-untyped-def]
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
    if mean_average_precision is not None:
        assert round(ranked.mean_average_precision, 3) == mean_average_precision
