"""What a form's parameters mean."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiftyone_sfam.app.operators.explain_retrieval import RunSettings
from fiftyone_sfam.data.protocol import Protocol
from fiftyone_sfam.errors import DataError


def test_nothing_given_is_the_defaults() -> None:
    assert RunSettings.read({}) == RunSettings()
    empty = dict.fromkeys(vars(RunSettings()))
    assert RunSettings.read(empty) == RunSettings()
    assert RunSettings.read({"key": "", "junk": ""}) == RunSettings()
    assert RunSettings.read({"panel_id": "x", "__method__": 1}) == RunSettings()


def test_what_is_given_is_kept() -> None:
    given = {
        "model": "demo",
        "key": "run",
        "k": 7.0,
        "kind": "evidence",
        "weights": "minmax",
        "exclude_same_camera": False,
        "batch_size": 8,
        "overwrite": True,
    }
    found = RunSettings.read(given)
    assert found == RunSettings(**given)
    assert isinstance(found.k, int)


def test_arguments_of_the_run() -> None:
    arguments = RunSettings(
        key="run",
        k=7,
        kind="evidence",
        identity_field="who",
        camera_field="camera",
        split_field="tags",
        query_value="probe",
        gallery_value="rest",
        exclude_same_camera=False,
        exclude_duplicates=True,
        junk=" -1, a b ,,",
        distractors="0",
        keep_index="kept",
        overwrite=True,
    ).arguments()
    measured = RunSettings(kind="auto", best_layer=True, check=False).arguments()
    named = {name: measured[name] for name in ("layer", "kinds", "check")}
    assert named == {"layer": "auto", "kinds": "auto", "check": False}
    assert arguments == {
        "key": "run",
        "k": 7,
        "protocol": Protocol(
            identity_field="who",
            camera_field="camera",
            exclude_same_camera=False,
            junk=("-1", "a b"),
            distractors=("0",),
            split_field="tags",
            query_value="probe",
            gallery_value="rest",
            exclude_duplicates=True,
        ),
        "patches_field": None,
        "embeddings": None,
        "keep_index": "kept",
        "layer": None,
        "kinds": ["evidence", "sfam"],
        "check": True,
        "path_pairs": "rank1",
        "weights": "signed",
        "contributions": None,
        "batch_size": 32,
        "overwrite": True,
    }
    assert RunSettings().arguments()["kinds"] == ["sfam", "evidence"]


@pytest.mark.parametrize(
    ("source", "expected"), [("compute", None), ("index", "idx"), ("field", "vec")]
)
def test_source_of_embeddings(source: str, expected: str | None) -> None:
    # A form keeps what was typed before its fields were hidden.
    settings = RunSettings(
        embeddings_from=source,
        brain_key="idx",
        embeddings_field="vec",
        keep_index="kept",
    )
    arguments = settings.arguments()
    assert arguments["embeddings"] == expected
    assert arguments["keep_index"] == ("kept" if source == "compute" else None)


def test_source_of_embeddings_that_is_not_named() -> None:
    with pytest.raises(DataError, match="choose the similarity index that holds"):
        RunSettings(embeddings_from="index").embeddings()
    with pytest.raises(DataError, match="choose the field that holds"):
        RunSettings(embeddings_from="field").embeddings()


def test_rules_that_contradict_each_other() -> None:
    with pytest.raises(DataError, match="need identity_field to be given"):
        RunSettings(junk="-1").protocol()
    with pytest.raises(DataError, match="identity '0' is both junk and a distractor"):
        RunSettings(identity_field="who", junk="0", distractors="1,0").protocol()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"k": 0}, "k is 0; give a whole number from 1 to 1000."),
        ({"k": 1001}, "k is 1001; give a whole number from 1 to 1000."),
        ({"k": 2.5}, "k is 2.5; give a whole number from 1 to 1000."),
        ({"k": True}, "k is True; give a whole number from 1 to 1000."),
        ({"k": "3"}, "k is '3'; give a whole number from 1 to 1000."),
        ({"k": math.nan}, "k is nan; give a whole number from 1 to 1000."),
        ({"k": math.inf}, "k is inf; give a whole number from 1 to 1000."),
        (
            {"batch_size": 1025},
            "batch_size is 1025; give a whole number from 1 to 1024.",
        ),
        ({"overwrite": 1}, "overwrite is 1; give true or false."),
        ({"model": 3}, "model is 3; give a text of at most 10000 characters."),
        (
            {"junk": "x" * 10_001},
            f"junk is '{'x' * 58}…; give a text of at most 10000 characters.",
        ),
        ({"key": ["a"]}, "key is ['a']; give a text of at most 10000 characters."),
        (
            {"embeddings_from": "web"},
            "embeddings_from is 'web'; give one of compute, index, field.",
        ),
        (
            {"kind": "point"},
            "kind is 'point'; give one of sfam, evidence, path, scales, auto.",
        ),
        ({"weights": "max"}, "weights is 'max'; give one of signed, minmax."),
    ],
)
def test_what_does_not_fit(params: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        RunSettings.read(params)
    assert str(caught.value) == message


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(vars(RunSettings()))), _ANYTHING))
def test_anything_gives_settings_or_one_sentence(params: dict[str, Any]) -> None:
    message = "."
    try:
        settings = RunSettings.read(params)
    except DataError as error:
        settings, message = RunSettings(), str(error)
    assert message.endswith(".")
    assert "\n" not in message
    assert 1 <= settings.k <= 1000
    assert 1 <= settings.batch_size <= 1024
    for name, default in vars(RunSettings()).items():
        if default is not None:
            assert type(getattr(settings, name)) is type(default)
