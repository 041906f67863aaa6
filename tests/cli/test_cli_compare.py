"""The command that compares two runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

from cli_support import Output, printed, refused, rows
from fiftyone_sfam import Run, explain_retrieval, load_comparison
from fiftyone_sfam.audit.comparison.display import counts_table, notes, sentences
from fiftyone_sfam.data.protocol import Protocol
from worlds import HEIGHT, WIDTH, fill, tiny_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Run]]:
    dataset = fill(fo.Dataset(), tmp_path_factory.mktemp("people"), 6, 3)
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
    mask[:, : WIDTH // 2] = 1
    dataset.set_values("half", [fo.Segmentation(mask=mask)] * len(dataset))
    protocol = Protocol("identity")
    yield [
        explain_retrieval(dataset, tiny_model(seed), key=key, k=3, protocol=protocol)
        for seed, key in enumerate(("one", "two"))
    ]
    dataset.delete()


def test_compare(runs: list[Run], capsys: Output, tmp_path: Path) -> None:
    name, file = runs[0].dataset.name, tmp_path / "compare.html"
    text = printed(
        capsys,
        *("compare", name, "one", "two", "--slice", "camera", "--regions", "half"),
        *("--resamples", "40", "--seed", "3", "--top", "2", "--out", str(file)),
    )
    found = load_comparison(*runs)
    assert found is not None
    assert (found.resamples, found.seed, found.field) == (40, 3, "half")
    for line in (*sentences(found), *notes(found)):
        assert line in text
    measures = {row[0]: row[1:] for row in rows(text, "measure")}
    for figure in found.figures:
        shown = measures[figure.name]
        assert shown[:2] == [
            f"{100 * figure.first:.1f} %",
            f"{100 * figure.second:.1f} %",
        ]
        assert shown[2].startswith(f"{100 * figure.difference.value:+.1f} (")
    counts = {row[0]: int(row[1]) for row in rows(text, "queries  ")}
    assert counts == {row[0].text: row[1].value for row in counts_table(found).rows}
    regions = [row[0] for row in rows(text, "share of the score")]
    assert regions == [region.region for region in found.regions]
    assert {"foreground", "background", "not on the map"} == set(regions)
    assert len(rows(text, "identity  ")) == 2
    cameras = [group.value for group in found.groups["camera"]]
    assert [row[0] for row in rows(text, "camera  ")] == cameras[:2]
    changed = rows(text, "query  ")
    ids = runs[0].items.ids[found.query[found.changed[:2], 0]]
    assert [row[0] for row in changed] == ids.tolist()
    assert text.rstrip().endswith(str(file))
    assert file.exists()


def test_what_is_refused(runs: list[Run], capsys: Output, tmp_path: Path) -> None:
    name, file = runs[0].dataset.name, tmp_path / "compare.html"
    file.write_text("", "utf-8")
    words = ("compare", name, "one")
    assert "exists already" in refused(capsys, *words, "two", "--out", str(file))
    assert "has no explained run 'three'" in refused(capsys, *words, "three")
    assert "is one run; name two" in refused(capsys, *words, "one")
    message = refused(capsys, *words, "two", "--regions", "nose")
    assert "no field 'nose' of masks" in message
