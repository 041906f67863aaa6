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
from faithfulness_pasted import (
    draw,
    opacity,
    paste,
    ranked_inside,
    rises,
    summarize,
    table,
)


def test_a_patch_is_a_quarter_with_faded_borders() -> None:
    seen = opacity((64, 32), (0.0, 1.0))
    assert seen.shape == (64, 32)
    # Half of the height from the top, half of the width up to the right border.
    assert (seen > 0.5).nonzero().amin(0).tolist() == [0, 16]
    assert (seen > 0.5).nonzero().amax(0).tolist() == [31, 31]
    # 4 of 64 rows are faded at the lower border: two inside, two outside.
    assert seen[28:36, 24].tolist() == [1, 1, 0.875, 0.625, 0.375, 0.125, 0, 0]
    base, patch = torch.zeros(3, 64, 32), torch.full((3, 64, 32), 8.0)
    assert paste(base, patch, seen)[:, 31, 24].tolist() == [5.0] * 3
    assert paste(base, patch, seen)[0, 40:].max() == 0


def test_which_patches_decide() -> None:
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
        assert genuine[one.patch, one.partner]
        assert impostor[one.patch, one.base]
    assert {one.base for one in drawn} == set(range(5))


def test_scores_of_composites_by_hand() -> None:
    def line(base: int, share: float, ranked: float) -> dict[str, Any]:
        return {
            "base": base,
            "share": {"path": share, "flat map (share of the area)": 0.25},
            "ranked": {"path": ranked, "flat map (share of the area)": 0.5},
        }

    lines = [{"base": 9}, line(1, 0.5, 0.8), line(2, float("nan"), 0.6)]
    found = summarize({"network": "net", "methods": ["path"]}, lines)
    assert (found["drawn"], found["kept"]) == (3, 2)
    path, flat = found["rows"]
    # A map without a positive part has no share.
    assert path["share"]["value"] == 0.5
    assert path["ranked"]["value"] == pytest.approx(0.7)
    assert flat["share"]["value"] == 0.25
    assert "2 of 3 drawn composites" in table(found)


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
