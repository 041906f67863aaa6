"""Datasets of any fields, gaps and structure: a right result, or a sentence."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId
from fiftyone.core.odm import get_db_conn
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import SfamError
from fiftyone_sfam.pipeline.explain import explain_retrieval
from fiftyone_sfam.runs.blobs import BUCKET
from fuzzing import fuzz
from naive_retrieval import naive
from worlds import embeddings_of, person, tiny_model

IMAGES = 6


def _labels(values: list[Any]) -> list[Any]:
    return [
        None
        if value is None
        else fo.Classification(label=None if value == "" else str(value))
        for value in values
    ]


def _lists(values: list[Any]) -> list[Any]:
    return [None if value is None else fo.Classifications() for value in values]


WORDS = st.sampled_from(["a", "b", "é <b>", "", "query", "gallery"]) | st.none()
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "text": WORDS,
    "whole": st.sampled_from([0, 1, -1, 2**40]) | st.none(),
    "number": st.sampled_from([0.0, 1.5, float("nan"), float("inf"), 1e300])
    | st.none(),
    "truth": st.booleans() | st.none(),
    "label": WORDS,
    # What has no text.
    "list": st.lists(st.sampled_from(["a", "b"]), max_size=2) | st.none(),
    "vector": st.just([1.0, 2.0]) | st.none(),
    "mapping": st.just({"a": 1}) | st.none(),
    "time": st.just(datetime(2026, 1, 1)) | st.none(),
    "labels": st.just("x") | st.none(),
    "empty": st.none(),
}
READABLE = ("text", "whole", "number", "truth", "label")
MAKE = {"label": _labels, "labels": _lists}

DAMAGES = st.sampled_from(["none", "none", "none", "nan", "inf", "zero", "missing"])
STRUCTURES = (
    *("flat", "shuffled", "half", "reversed", "none", "without fields"),
    *("twice", "slices", "one slice", "grouped by", "flat groups"),
)


def one_of(*choices: Any) -> st.SearchStrategy[Any]:
    """Choose each equally often, drawn from where it is a strategy."""
    made = [
        one if isinstance(one, st.SearchStrategy) else st.just(one) for one in choices
    ]
    return st.integers(0, len(made) - 1).flatmap(made.__getitem__)


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a dataset, a view of it, and the rules of a retrieval."""
    readable = st.sampled_from(READABLE)
    columns = {
        name: (kind, draw(st.lists(COLUMNS[kind], min_size=IMAGES, max_size=IMAGES)))
        for name in ("who", "cam", "part")
        for kind in [draw(one_of(*[readable] * 4, st.sampled_from([*COLUMNS])))]
    }
    name = st.sampled_from([None, "who", "cam", "part", "filepath", "nope", "metadata"])
    return {
        "columns": columns,
        "damage": draw(st.lists(DAMAGES, min_size=IMAGES, max_size=IMAGES)),
        "given": draw(st.booleans()),
        "structure": draw(one_of(*["flat"] * 3, st.sampled_from(STRUCTURES))),
        "identity": draw(one_of("who", "who", "who", "who", "who", "who", None, name)),
        "camera": draw(one_of("cam", "cam", "cam", None, None, None, name)),
        "split": draw(one_of(None, None, None, None, "part", "part", name)),
        "k": draw(st.sampled_from([1, 2, 100])),
        "metric": draw(st.sampled_from(["cosine", "euclidean"])),
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("fuzz")
    paths = [folder / f"{place}.png" for place in range(IMAGES)]
    for place, path in enumerate(paths):
        person(place // 2, place).save(path)
    return [str(path) for path in paths]


def text_of(value: Any) -> str | None:
    """What a value is called, by the rule of the documentation."""
    if isinstance(value, float) and not isinstance(value, bool):
        if math.isnan(value):
            return None
        return (
            str(int(value))
            if math.isfinite(value) and value == int(value)
            else str(value)
        )
    return None if value in (None, "") else str(value)


def damaged(vectors: np.ndarray, damage: list[str]) -> list[Any]:
    found: list[Any] = [row.copy() for row in vectors]
    for place, kind in enumerate(damage):
        if kind == "nan":
            found[place][0] = np.nan
        elif kind == "inf":
            found[place][-1] = np.inf
        elif kind == "zero":
            found[place][:] = 0
        elif kind == "missing":
            found[place] = None
    return found


def build(plan: dict[str, Any], files: list[str], vectors: np.ndarray) -> fo.Dataset:
    dataset = fo.Dataset()
    samples = [fo.Sample(path, place=place) for place, path in enumerate(files)]
    if plan["structure"] in ("slices", "one slice"):
        dataset.add_group_field("group", default="even")
        for place, sample in enumerate(samples):
            if place % 2 == 0:
                group = fo.Group()
            sample["group"] = group.element("odd" if place % 2 else "even")
    for name, (kind, values) in plan["columns"].items():
        made = MAKE.get(kind, list)(values)
        for sample, value in zip(samples, made, strict=True):
            if value is not None:
                sample[name] = value
    for sample, vector in zip(samples, damaged(vectors, plan["damage"]), strict=True):
        if vector is not None:
            sample["vec"] = vector
    dataset.add_samples(samples)
    return dataset


def view_of(dataset: fo.Dataset, structure: str) -> Any:
    return {
        "flat": lambda: dataset,
        "shuffled": lambda: dataset.shuffle(seed=1),
        "half": lambda: dataset.match(fo.ViewField("place") % 2 == 0),
        "reversed": lambda: dataset.sort_by("place", reverse=True),
        "none": lambda: dataset.limit(0),
        "without fields": lambda: dataset.select_fields("place"),
        "twice": lambda: dataset.concat(dataset.limit(1)),
        "slices": lambda: dataset,
        "one slice": lambda: dataset.select_group_slices("odd"),
        "grouped by": lambda: dataset.group_by("place"),
        "flat groups": lambda: dataset.group_by("place", flat=True),
    }[structure]()


def assert_right(
    run: Any, view: Any, plan: dict[str, Any], vectors: np.ndarray, files: list[str]
) -> None:
    """Compare a run with the ranking by definition, of what can be compared."""
    place_of = dict(zip(*view.values(["id", "place"]), strict=True))
    places = [place_of[one] for one in run.items.sample_ids]
    assert len(places) == len(view)
    columns: dict[str, list[Any]] = {
        "filepath": [str(files[place]) for place in places]
    }
    for name, (_, values) in plan["columns"].items():
        columns[name] = [text_of(values[place]) for place in places]
    nothing = [None] * len(places)
    labels = columns[plan["identity"]] if plan["identity"] else nothing
    cameras = columns[plan["camera"]] if plan["camera"] else nothing
    splits = [{one} for one in columns[plan["split"]]] if plan["split"] else nothing
    assert list(run.items.identities) == labels
    assert list(run.items.cameras) == cameras
    bad = {
        place
        for place, kind in enumerate(plan["damage"])
        if plan["given"] and kind != "none"
    }
    skipped = [places[one.index] for one in run.skipped]
    assert sorted(skipped) == sorted(bad & set(places))
    left = [at for at, place in enumerate(places) if place not in bad]
    rows = vectors[[places[at] for at in left]].astype(np.float64)
    protocol = Protocol(
        identity_field=plan["identity"],
        camera_field=plan["camera"],
        split_field=plan["split"],
    )
    for query, at in enumerate(left):
        ranked = naive(
            rows,
            [labels[one] for one in left],
            [cameras[one] for one in left],
            [splits[one] for one in left],
            protocol,
            query,
            plan["metric"],
        )
        pairs = run.pairs.of_query(at)
        near = pairs[run.pairs.rank[pairs] <= plan["k"]]
        expected = (ranked or [])[: plan["k"]]
        assert run.pairs.gallery[near].tolist() == [left[one[1]] for one in expected]
        np.testing.assert_allclose(
            run.pairs.similarity[near], [one[2] for one in expected], atol=1e-5
        )


def test_any_dataset(files: list[str]) -> None:
    outcomes: Counter[str] = Counter()
    told: list[str] = []
    networks = {metric: tiny_model(metric=metric) for metric in ("cosine", "euclidean")}
    vectors = embeddings_of(networks["cosine"], files)

    @fuzz(20)
    @given(plan=plans())
    def check(plan: dict[str, Any]) -> None:
        dataset = build(plan, files, vectors)
        try:
            view = view_of(dataset, plan["structure"])
            try:
                run = explain_retrieval(
                    view,
                    networks[plan["metric"]],
                    k=plan["k"],
                    protocol=Protocol(
                        identity_field=plan["identity"],
                        camera_field=plan["camera"],
                        split_field=plan["split"],
                    ),
                    embeddings="vec" if plan["given"] else None,
                    num_workers=0,
                )
            except SfamError as error:
                told.append(str(error))
                outcomes["refused"] += 1
                # Nothing is left of it.
                stored = get_db_conn()[f"{BUCKET}.files"]
                query = {"metadata.dataset_id": str(ObjectId(dataset._doc.id))}
                assert stored.count_documents(query) == 0
                assert dataset.list_runs() == []
                return
            assert_right(run, view, plan, vectors, files)
            outcomes["right"] += 1
        finally:
            dataset.delete()

    check()
    assert [one for one in told if "\n" in one or not one.endswith((".", "?"))] == []
    assert min(outcomes["right"], outcomes["refused"]) >= 5
