"""MobileFaceNet and EdgeFace on real faces, compared with scikit-learn's figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch
from check_real import Case, load_case, make_dataset, prepared
from sklearn.metrics import average_precision_score, roc_curve

from fiftyone_sfam import Protocol, Run, compare_runs, explain_retrieval
from fiftyone_sfam.audit.comparison.result import Comparison

CASES = {
    "mobilefacenet": Case("mobilefacenet", "mobilefacenet", None, ""),
    "edgeface": Case("", "edgeface", None, ""),
}
IDENTITIES, PER_IDENTITY = 40, 8


class Independent:
    """A model's figures from its plain embeddings and scikit-learn."""

    def __init__(self, model: object, paths: list[str], labels: np.ndarray) -> None:
        images = torch.stack([prepared(model, path) for path in paths])
        with torch.no_grad():
            parts = [model.network(part) for part in images.split(32)]
        vectors = torch.nn.functional.normalize(torch.cat(parts).double(), dim=1)
        scores = (vectors @ vectors.T).numpy()
        same = labels[:, None] == labels
        others = ~np.eye(len(labels), dtype=bool)
        self.average_precision = np.array(
            [
                average_precision_score(same[row, keep], scores[row, keep])
                for row, keep in enumerate(others)
            ]
        )
        np.fill_diagonal(scores, -2)
        nearest = np.where(same & others, scores, -2).max(axis=1, keepdims=True)
        # Every image ahead of the nearest true match is a false one.
        self.first_match = 1 + (scores > nearest).sum(axis=1)
        upper = np.triu_indices(len(labels), 1)
        self.fmr, self.tar, _ = roc_curve(
            same[upper], scores[upper], drop_intermediate=False
        )

    def tar_at(self, far: float) -> float:
        return float(self.tar[self.fmr <= far + 1e-12].max())

    @property
    def equal_error(self) -> float:
        place = np.abs(self.fmr - (1 - self.tar)).argmin()
        return float((self.fmr[place] + 1 - self.tar[place]) / 2)


@pytest.fixture(scope="module")
def models(assets_dir: Path) -> dict[str, object]:
    return {title: load_case(case, assets_dir)[0] for title, case in CASES.items()}


@pytest.fixture(scope="module")
def runs(assets_dir: Path, models: dict[str, object]) -> Iterator[list[Run]]:
    folder = assets_dir / "data" / "lfw_subset_chips112x96"
    dataset = make_dataset(folder)
    masks = folder.with_name(f"{folder.name}_masks")
    for sample in dataset:
        path = Path(sample.filepath)
        mask = masks / path.relative_to(folder).with_suffix(".png")
        sample["person"] = fo.Segmentation(mask_path=str(mask))
        sample.save()
    dataset.mask_targets = {"person": {255: "person"}}
    dataset.save()
    yield [
        explain_retrieval(
            dataset,
            model,
            key=key,
            k=3,
            protocol=Protocol("identity"),
            kinds=["evidence"],
        )
        for key, model in models.items()
    ]
    dataset.delete()


@pytest.fixture(scope="module")
def compared(runs: list[Run]) -> Comparison:
    return compare_runs(*runs, fars=(0.1, 0.01))


def test_figures_are_those_of_scikit_learn(
    runs: list[Run], models: dict[str, object], compared: Comparison
) -> None:
    paths, identities = runs[0].dataset.values(["filepath", "identity"])
    labels = np.unique(identities, return_inverse=True)[1]
    assert len(labels) == IDENTITIES * PER_IDENTITY
    found = [Independent(model, paths, labels) for model in models.values()]
    order = compared.query[:, 0]
    for side, one in enumerate(found):
        precision = one.average_precision[order]
        assert compared.average_precision[:, side] == pytest.approx(precision, abs=1e-9)
        expected_ranks = one.first_match[order].tolist()
        assert compared.first_match[:, side].tolist() == expected_ranks
        assert max(expected_ranks) > 1
    first, second = ({*np.flatnonzero(one.first_match > 1).tolist()} for one in found)
    assert first != second
    assert set(order[compared.gained].tolist()) == first - second
    assert set(order[compared.lost].tolist()) == second - first
    figures = {figure.name: figure for figure in compared.figures}
    expected = {
        "rank-1": [(one.first_match == 1).mean() for one in found],
        "mAP": [one.average_precision.mean() for one in found],
        "equal error rate": [one.equal_error for one in found],
        "TAR at FAR 10 %": [one.tar_at(0.1) for one in found],
        "TAR at FAR 1 %": [one.tar_at(0.01) for one in found],
    }
    assert list(figures) == list(expected)
    for name, values in expected.items():
        figure = figures[name]
        assert [figure.first, figure.second] == pytest.approx(values, abs=1e-9)
        assert figure.difference.value == pytest.approx(values[1] - values[0], abs=1e-9)
        assert figure.difference.low <= figure.difference.value
        assert figure.difference.high >= figure.difference.value


def test_intervals_are_those_of_a_paired_bootstrap(compared: Comparison) -> None:
    """Drawn one by one, from the queries and two that lose and gain the most."""
    rng, count = np.random.default_rng(1), len(compared.query)
    right = (compared.first_match == 1).astype(float)
    for figure, values in zip(
        compared.figures[:2], (right, compared.average_precision), strict=True
    ):
        gained = values[:, 1] - values[:, 0]
        assert np.count_nonzero(gained) > 0
        found = figure.difference
        (low, high), (plain_low, plain_high) = (
            np.quantile(
                [rng.choice(pool, count).mean() for _ in range(4000)], [0.025, 0.975]
            )
            for pool in ([*gained, -1, 1], gained)
        )
        assert found.low == pytest.approx(low, abs=0.15 * (high - low))
        assert found.high == pytest.approx(high, abs=0.15 * (high - low))
        assert found.low < plain_low < plain_high < found.high


def test_shares_of_real_models_add_up(compared: Comparison) -> None:
    assert compared.field == "person"
    names = {one.region for one in compared.regions}
    assert names == {"person", "background", "not on the map"}
    for side in ("first", "second"):
        total = sum(getattr(one, side) for one in compared.regions)
        assert total == pytest.approx(1, abs=1e-6)
    assert compared.places is not None
    # The grid has the rows and columns of the coarser map; the maps of either model
    # carry what is not left to the head.
    rest = compared.regions[-1]
    assert compared.places.shares[0].sum() == pytest.approx(1 - rest.first, abs=2e-3)
