"""The benchmark of faithfulness: its tables, the demo world's answer, real faces."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from faithfulness import choose, kinds_of, load_data, threshold
from faithfulness_demo import person_pairs, positive_share, region_of, wall_pairs
from faithfulness_masking import rise_masks
from faithfulness_methods import methods
from faithfulness_table import summarize, table

from fiftyone_sfam.attribution.scales import path_layers
from fiftyone_sfam.audit.faithfulness.maps import image_maps
from fiftyone_sfam.audit.faithfulness.masks import masked_embeddings, similarity_curves


def line(query: int, gain: dict[str, float]) -> dict[str, Any]:
    """A query whose curves are straight, but for what a map gains in the middle."""
    deletion, insertion, rank = {}, {}, {}
    worse: dict[str, Any] = {"deletion": {}, "insertion": {}, "rank": {}}
    for method in methods(9):
        more = gain.get(method.name, 0.0)
        deletion[method.name] = [[1.0, 0.5 - more, 0.0], [0.6, 0.3 - more, 0.0]]
        insertion[method.name] = [[0.0, 0.5 + more, 1.0], [0.0, 0.3 + more, 0.6]]
        rank[method.name] = [1, 1 if more > 0.1 else 2, 3]
        # The other fill sees half of the gain.
        less = more / 2
        worse["deletion"][method.name] = [
            [1.0, 0.5 - less, 0.0],
            [0.6, 0.3 - less, 0.0],
        ]
        worse["insertion"][method.name] = [
            [0.0, 0.5 + less, 1.0],
            [0.0, 0.3 + less, 0.6],
        ]
        worse["rank"][method.name] = [1, 1, 1]
    seconds = {method.name: 0.001 * query for method in methods(9)}
    return {
        "query": query,
        "fills": {
            "blur": {"deletion": deletion, "insertion": insertion, "rank": rank},
            "mean": worse,
        },
        "seconds": seconds,
    }


def test_a_table_worked_out_by_hand() -> None:
    settings = {
        "network": "net",
        "layer": "last",
        "steps": 2,
        "masks": 9,
        "threshold": 0.45,
        "fills": ["blur", "mean"],
    }
    lines = [line(number, {"path": 0.2, "SBSM": 0.1}) for number in range(1, 8)]
    found = summarize(settings, lines, methods(9))
    assert (found["queries"], found["pairs"]) == (7, 14)
    assert found["best other"] == "SBSM"
    rows = {row["method"]: row for row in found["rows"]}
    # Half the steps gain: the area between the curves is the gain twice, over two.
    assert rows["path"]["margin"] == pytest.approx(
        {"value": 0.15, "low": 0.15, "high": 0.15}
    )
    assert {fill: one["value"] for fill, one in rows["path"]["by fill"].items()} == {
        "blur": pytest.approx(0.2),
        "mean": pytest.approx(0.1),
    }
    assert rows["random"]["margin"]["value"] == pytest.approx(0)
    difference = found["differences"]["path"]["SBSM"]
    assert difference == pytest.approx({"value": 0.075, "low": 0.075, "high": 0.075})
    by_fill = found["differences by fill"]["path"]
    assert by_fill["mean"] == pytest.approx({"value": 0.05, "low": 0.05, "high": 0.05})
    others = {"SBSM", "centre prior", "plain activation"}
    assert set(found["differences"]["path of several scales"]) == others
    # Halfway hidden: 0.3 and 0.1 are below 0.45, so genuine pairs are refused.
    assert rows["path"]["accuracy hidden"] == 0.5
    # Halfway shown: 0.7 is accepted, and so is 0.5; of the other fill 0.6, but not 0.4.
    assert rows["path"]["accuracy shown"] == 0.75
    # 0.5 is accepted, 0.3 is not.
    assert rows["random"]["accuracy shown"] == 1
    assert rows["path"]["rank kept"] == 1
    assert rows["SBSM"]["rank kept"] == 0.5
    # Impostors are accepted untouched, genuine pairs refused wholly hidden; between,
    # a half or all of the decisions are right.
    assert rows["path"]["decisions"]["value"] == pytest.approx(0.5)
    assert rows["random"]["decisions"]["value"] == pytest.approx(0.75)
    # Restored from nothing, genuine pairs are accepted from halfway on, so a quarter is
    # refused. Of impostors, halfway 0.3 is refused, and 0.5 under one of two fills.
    assert rows["random"]["false non-match"]["value"] == pytest.approx(0.25)
    assert rows["random"]["false match"]["value"] == pytest.approx(0.25)
    assert rows["path"]["false match"]["value"] == pytest.approx((0.75 + 0.25) / 2)
    assert rows["path"]["seconds"] == pytest.approx(0.004)
    text = table(found)
    assert text.splitlines()[6].startswith(
        "| path | 0.1500 (0.1500 to 0.1500) | 0.2000 (0.2000 to 0.2000) | 0.1000 "
    )
    assert "| path minus SBSM | +0.0750 (+0.0750 to +0.0750) |" in text
    assert "| path minus SBSM, mean | +0.0500 (+0.0500 to +0.0500) |" in text


def test_masks_of_rise() -> None:
    masks = rise_masks(400, (32, 16))
    assert masks.shape == (400, 32, 16)
    assert 0 <= float(masks.min()) < 0.1
    assert 0.9 < float(masks.max()) <= 1
    # On average half is shown, wherever.
    assert float((masks.mean(0) - 0.5).abs().max()) < 0.12
    assert torch.equal(masks, rise_masks(400, (32, 16)))


def test_what_the_demo_world_knows() -> None:
    person = np.array([[True, False], [False, False]])
    assert region_of(person, (4, 2), "person").tolist() == [
        [True, False],
        [True, False],
        [False, False],
        [False, False],
    ]
    region = region_of(person, (2, 2), "wall")
    # Negative heat counts for nothing.
    values = np.array([[3.0, 1.0], [-9.0, 0.0]])
    assert positive_share(values, region) == 0.25
    assert np.isnan(positive_share(-np.ones((2, 2)), region))

    def crop(identity: str, camera: str, *defects: str) -> SimpleNamespace:
        return SimpleNamespace(
            true_identity=identity, camera=camera, defects=tuple(defects)
        )

    crops: tuple[Any, ...] = (
        crop("a", "c1"),
        crop("a", "c2"),
        crop("a", "c1"),
        crop("a", "c2", "wrong_label"),
        crop("b", "c1", "shortcut"),
        crop("b", "c2", "shortcut"),
        crop("d", "c1", "shortcut"),
    )
    assert person_pairs(crops) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert wall_pairs(crops) == [(4, 6), (5, 6), (6, 4), (6, 5)]


def test_on_real_faces(assets_dir: Path) -> None:
    data = load_data("mobilefacenet", assets_dir, half=1)
    genuine, impostor = kinds_of(data)
    assert len(data.images) == 160
    assert genuine.sum() == 160 * 7
    # Shares of genuine pairs below and of impostor pairs above are about the same.
    limit = threshold(data)
    embeddings = data.embeddings / data.embeddings.norm(dim=1, keepdim=True)
    scores = (embeddings @ embeddings.T).numpy()
    refused = (scores[genuine] < limit).mean()
    assert refused == pytest.approx((scores[impostor] >= limit).mean(), abs=2e-3)
    assert refused < 0.1
    layers = path_layers(data.model, data.images[0])
    assert layers[0].name == "conv2"
    margins: dict[str, list[float]] = {}
    for query, match, other in choose(data, 4):
        assert (
            data.identities[query] == data.identities[match] != data.identities[other]
        )
        partners = data.embeddings[[match, other]]
        found = image_maps(data.model, data.images[query], partners, scaled=layers)
        for name, maps in found.maps.items():
            both = maps.expand(2, -1, -1)
            masked = masked_embeddings(
                data.model.embed, data.images[query], both, steps=3, batch_size=8
            )
            curves = similarity_curves(masked, partners)
            np.testing.assert_allclose(
                curves.deletion[:, 0], scores[query, [match, other]], atol=1e-4
            )
            margins.setdefault(name, []).extend(curves.margin)
    mean = {name: float(np.mean(values)) for name, values in margins.items()}
    # On aligned faces a blob in the middle is hard to beat; path maps do.
    assert mean["path"] > mean["centre prior"] + 0.05
    assert mean["path of several scales"] > mean["evidence"]
    assert abs(mean["random"]) < 0.15
