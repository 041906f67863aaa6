"""Composites of the benchmark, and how it goes on where it was stopped."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from faithfulness import choose, goals, resume
from faithfulness_demo import positive_share
from faithfulness_pasted import (
    SIDES,
    draw,
    opacity,
    paste,
    ranked_inside,
    rises,
    summarize,
    table,
)

from fiftyone_sfam.audit.faithfulness.maps import center_prior


def test_halves_have_faded_borders() -> None:
    upper, lower = (opacity((64, 32), side) for side in ("upper", "lower"))
    # 4 of 64 rows are faded.
    faded = [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]
    assert upper[28:36, 7].tolist() == faded
    assert lower[28:36, 7].tolist() == faded[::-1]
    left, right = (opacity((64, 32), side) for side in ("left", "right"))
    assert left[5, 13:19].tolist() == [1, 1, 0.75, 0.25, 0, 0]
    assert torch.equal(left + right, torch.ones(64, 32))
    base, half = torch.zeros(3, 64, 32), torch.full((3, 64, 32), 8.0)
    assert paste(base, half, upper)[:, 31, 24].tolist() == [5.0] * 3
    assert paste(base, half, upper)[0, 40:].max() == 0


def test_which_halves_decide() -> None:
    # The gap is 0.4, of which a quarter is closed.
    assert rises(0.2, 0.6, 0.31, threshold=0.4)
    assert not rises(0.2, 0.6, 0.29, threshold=0.4)
    # Both pairs are accepted, or both are rejected.
    assert not rises(0.2, 0.6, 0.5, threshold=0.1)
    assert not rises(0.2, 0.6, 0.5, threshold=0.7)


def test_how_far_a_region_is_ranked_above_the_rest() -> None:
    region = np.array([[True, False], [True, False]])
    assert ranked_inside(np.array([[4.0, 1.0], [3.0, 2.0]]), region) == 1
    assert ranked_inside(np.array([[1.0, 4.0], [2.0, 3.0]]), region) == 0
    # Equal values count half: 1 + 0.5 of two for the one, and two for the other.
    assert ranked_inside(np.array([[2.0, 1.0], [3.0, 2.0]]), region) == 0.875
    assert ranked_inside(np.ones((2, 2)), region) == 0.5


def test_composites_are_drawn_by_their_number() -> None:
    identities = np.array([0, 0, 1, 1, 2])
    same = identities[:, None] == identities
    genuine, impostor = same & ~np.eye(5, dtype=bool), ~same
    drawn = [draw(number, genuine, impostor) for number in range(40)]
    assert drawn == [draw(number, genuine, impostor) for number in range(40)]
    assert len(set(drawn)) > 20
    for one in drawn:
        assert genuine[one.half, one.partner]
        assert impostor[one.half, one.base]
    assert [one.side for one in drawn[:5]] == [
        "left",
        "right",
        "upper",
        "lower",
        "left",
    ]


def test_scores_of_composites_by_hand() -> None:
    def line(base: int, side: str, share: float, ranked: float) -> dict[str, Any]:
        scores = {"share": {"path": share}, "ranked": {"path": ranked}}
        return {"base": base, "side": side, **scores}

    nothing = float("nan")
    lines = [
        {"base": 9, "side": "left", "similarities": [0.1, 0.6, 0.1]},
        line(1, "upper", 0.8, 0.9),
        line(2, "upper", 0.4, 0.9),
        line(3, "lower", nothing, 0.9),
        line(4, "lower", 0.2, 0.2),
        line(5, "lower", 0.2, 0.1),
    ]
    found = summarize({"network": "net", "methods": ["path"]}, lines)
    assert (found["drawn"], found["kept"]) == (6, 5)
    assert found["sides"] == {"left": 0, "right": 0, "upper": 2, "lower": 3}
    (path,) = found["rows"]
    # The lower halves count as much as the upper ones, which are fewer.
    assert path["ranked"]["value"] == pytest.approx((0.9 + 0.4) / 2)
    # A map without a positive part has no share.
    assert path["share"]["value"] == pytest.approx((0.6 + 0.2) / 2)
    assert "5 of 6 drawn composites (left 0, right 0, upper 2, lower 3)" in table(found)


def test_a_map_that_is_always_the_same_knows_nothing() -> None:
    center = center_prior((64, 32)).numpy()
    for side in SIDES:
        region = (opacity((64, 32), side) > 0.5).numpy()
        assert ranked_inside(center, region) == pytest.approx(0.5)
        assert positive_share(center, region) == pytest.approx(0.5)


def test_lines_are_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "network" / "lines.jsonl"
    settings = {"steps": 5, "methods": ["path"]}
    assert resume(path, settings) == set()
    with path.open("a") as file:
        file.write(json.dumps({"query": 7}) + "\n")
    assert resume(path, settings) == {7}
    with pytest.raises(
        SystemExit, match=r"measured with steps 5, not 10; move it away"
    ):
        resume(path, {**settings, "steps": 10})
    with pytest.raises(SystemExit, match=r"methods \['path'\], not \['path', 'sfam'\]"):
        resume(path, {**settings, "methods": ["path", "sfam"]})


def test_more_pairs_keep_those_that_were_measured() -> None:
    embeddings = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    data: Any = SimpleNamespace(
        embeddings=embeddings,
        identities=np.arange(40) // 4,
        cameras=[None] * 40,
        model=SimpleNamespace(metric="cosine"),
    )
    assert choose(data, 20)[:10] == choose(data, 10)
    assert goals(50, 20) == [20, 40, 50]
    assert goals(50, None) == [50]
